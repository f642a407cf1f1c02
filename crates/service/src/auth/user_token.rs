//! Tokens that this service issues: for one user, some scopes, and a few minutes.
//!
//! They are JWTs of a type of their own, signed with a random secret that lies in the database, so that
//! every replica accepts them and nothing has to be set up. Their first part is always the same text, by which
//! they are told from the tokens of identity providers before anything is parsed: neither kind is ever
//! checked with the other's key. A token ends with the key that issued it.

use super::principal::{Scopes, UserPrincipal};
use super::token::{Refusal, TOKEN_MAX_BYTES};
use crate::db::{Db, DbError, FromRow, Row, Value};
use crate::keys::{Keys, text};
use crate::measure;
use crate::writer::{Command, Edit, Statement, WriteError, Writer};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use kernel::{Clock, ExternalId, UserRowId};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

/// The longest that a token may live, in seconds.
pub const LIFETIME_MAX_S: u32 = 3600;
/// How long it lives when nobody says, in seconds.
pub const LIFETIME_S: u32 = 300;
/// Who issues these tokens, and whom they are for.
const ISSUER: &str = "user-service";
/// The type of these tokens, as RFC 8725 advises.
const TYPE: &str = "ut+jwt";
const SECRET_BYTES: usize = 32;

/// Issues tokens, and reads them.
pub struct UserTokens {
    db: Db,
    writer: Writer,
    clock: Clock,
    keys: Keys,
    /// The first part of every token, with its point.
    head: String,
    validation: Validation,
    secret: OnceCell<Secret>,
}

struct Secret {
    signs: EncodingKey,
    verifies: DecodingKey,
}

/// The second part of a token.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: ExternalId,
    /// What it is good for, parted by spaces.
    scope: String,
    /// Who had it issued: `key:<key id>`, or `admin`.
    azp: String,
    iat: i64,
    exp: i64,
    jti: String,
}

struct Stored(Vec<u8>);

impl FromRow for Stored {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        row.bytes(0).map(Self)
    }
}

fn header() -> Header {
    Header { typ: Some(TYPE.to_owned()), ..Header::new(Algorithm::HS256) }
}

impl UserTokens {
    /// Tokens signed with the secret of a database.
    #[must_use]
    pub fn new(db: Db, writer: Writer, clock: Clock, keys: Keys) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // The library reads the system's clock; the times are checked here.
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        // The header does not depend on the key, nor on the claims.
        let any = encode(&header(), &(), &EncodingKey::from_secret(b"any")).unwrap_or_default();
        let head = any.split_inclusive('.').next().unwrap_or_default().to_owned();
        Self { db, writer, clock, keys, head, validation, secret: OnceCell::new() }
    }

    /// Whether these bytes are, or pretend to be, a token of this service.
    #[must_use]
    pub fn are_these(&self, token: &[u8]) -> bool {
        token.starts_with(self.head.as_bytes())
    }

    /// A token for a user; `by` is who has it issued, as the claim `azp` says.
    ///
    /// # Errors
    /// [`WriteError`] where the secret can be neither read nor made.
    pub async fn issue(
        &self,
        user: &ExternalId,
        scopes: Scopes,
        by: String,
        lifetime_s: u32,
    ) -> Result<String, WriteError> {
        let now = self.clock.now().seconds();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
            sub: user.clone(),
            scope: scopes.to_string(),
            azp: by,
            iat: now,
            exp: now + i64::from(lifetime_s),
            jti: crate::http::facts::fresh_id().to_string(),
        };
        let secret = self.secret.get_or_try_init(|| self.make()).await?;
        encode(&header(), &claims, &secret.signs)
            .map_err(|error| WriteError::Internal(format!("a token cannot be signed: {error}")))
    }

    /// The user whom a token stands for.
    ///
    /// # Errors
    /// A [`Refusal`] that says why the token is not accepted.
    pub async fn verify(&self, token: &[u8]) -> Result<UserPrincipal, Refusal> {
        let judged = self.judge(token).await;
        measure::token_judged(judged.as_ref().map_or_else(|refusal| refusal.name(), |_| "verified"));
        judged
    }

    async fn judge(&self, token: &[u8]) -> Result<UserPrincipal, Refusal> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(Refusal::TooLong);
        }
        let secret = self.secret.get_or_try_init(|| self.read()).await?;
        // Why it is none is for the debug log alone, and the library's words can quote the token.
        let decoded = decode::<Claims>(token, &secret.verifies, &self.validation);
        let claims = decoded.map_err(|_| Refusal::Signature)?.claims;
        if claims.exp <= self.clock.now().seconds() {
            return Err(Refusal::Expired);
        }
        if let Some(key_id) = claims.azp.strip_prefix("key:")
            // The bootstrap key and programs with tokens of their issuer are not among them.
            && text::is_id(key_id)
            && !self.keys.is_active(key_id).await.map_err(|_| Refusal::KeysUnavailable)?
        {
            return Err(Refusal::Expired);
        }
        let scopes = claims.scope.parse().map_err(|_| Refusal::Malformed)?;
        Ok(UserPrincipal { subject: claims.sub, email: None, name: None, admin: false, scopes: Some(scopes) })
    }

    /// Reads the secret; before the first token there is none, so no token can be right.
    async fn read(&self) -> Result<Secret, Refusal> {
        match self.stored().await {
            Ok(Some(secret)) => Ok(secret),
            Ok(None) => Err(Refusal::Signature),
            Err(_) => Err(Refusal::KeysUnavailable),
        }
    }

    /// Reads the secret, or makes it; where two processes make one at once, the first is everybody's.
    async fn make(&self) -> Result<Secret, WriteError> {
        if let Some(secret) = self.stored().await? {
            return Ok(secret);
        }
        let mut bytes = vec![0; SECRET_BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| WriteError::Internal("the system has no random bytes".to_owned()))?;
        let sql =
            "INSERT INTO token_secrets (id, secret, created_at) VALUES (1, $1, $2) ON CONFLICT DO NOTHING";
        let values = vec![Value::Bytes(bytes), self.clock.now().micros().into()];
        let edit = Edit::new(UserRowId(0), vec![Statement::any(sql, values)]);
        self.writer.execute(Command::Edit(edit)).await?;
        let missing = || WriteError::Internal("the secret of tokens was not kept".to_owned());
        self.stored().await?.ok_or_else(missing)
    }

    async fn stored(&self) -> Result<Option<Secret>, DbError> {
        let sql = "SELECT secret FROM token_secrets WHERE id = 1";
        let found = self.db.find::<Stored>(sql, &[]).await?;
        Ok(found.map(|Stored(bytes)| Secret {
            signs: EncodingKey::from_secret(&bytes),
            verifies: DecodingKey::from_secret(&bytes),
        }))
    }
}

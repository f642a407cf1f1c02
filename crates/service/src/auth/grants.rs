//! Permission as a type: a handler asks for [`CanSpend`], and cannot get a user without the check.
//!
//! A plain user reaches its own resources only; another's is 403, an unknown one 404. A service
//! key reaches any user within its scopes. An admin reaches all.

use super::authenticator::API_KEY;
use super::{Principal, Scope, Scopes, UserPrincipal};
use crate::app::App;
use crate::audit;
use crate::credits::model::Origin;
use crate::http::input::Once;
use crate::http::operations::Known;
use crate::http::{ApiError, RequestFacts};
use crate::sessions::{self, SessionRef};
use crate::users::store;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use kernel::{ExternalId, UserKey, UserRowId};
use std::marker::PhantomData;
use std::sync::Arc;

/// Whether a plain user may do it to itself.
pub enum Own {
    /// It may.
    Yes,
    /// It may not.
    No,
    /// Only where `ALLOW_SELF_RECHARGE` says so.
    SelfRecharge,
}

/// One thing that may be done to a user.
pub trait Permission: Send + Sync + 'static {
    /// What a service key needs, all of it.
    const SCOPES: &'static [Scope];
    /// Whether a user may do it to itself.
    const OWN: Own;
    /// Whether the effect itself refuses a deleted user, so that a remembered row id will do.
    const REMEMBERED: bool;
}

/// A user of the service, by both its ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRef {
    /// The integer key.
    pub row: UserRowId,
    /// The identity provider's id.
    pub auth0_id: ExternalId,
}

/// Whoever is asking, authenticated.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who it is.
    pub principal: Principal,
    facts: Arc<RequestFacts>,
}

impl Caller {
    /// What is known of the request.
    #[must_use]
    pub fn facts(&self) -> &RequestFacts {
        &self.facts
    }

    /// What a ledger entry says of this request.
    #[must_use]
    pub fn origin(&self, once: &Once) -> Origin {
        Origin {
            actor: self.principal.caller(),
            request_id: Some(self.facts.id.to_string()),
            idempotency_key: once.key_text(),
        }
    }

    /// The user itself, where the caller is a user or an admin user.
    #[must_use]
    pub const fn subject(&self) -> Option<&ExternalId> {
        match &self.principal {
            Principal::User(user) => Some(&user.subject),
            Principal::Service(_) => None,
        }
    }

    /// The public name of the key that the caller is, where it is one.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        match &self.principal {
            Principal::User(_) => None,
            Principal::Service(service) => Some(service.key_id.to_string()),
        }
    }

    /// Refuses a token that is good for some things only where its scopes are not those that the
    /// document names for the route; so what the document does not say is refused.
    fn token_is_good_for(&self, app: &App, parts: &Parts) -> Result<(), ApiError> {
        let Principal::User(UserPrincipal { scopes: Some(scopes), .. }) = &self.principal else {
            return Ok(());
        };
        let route = parts.extensions.get::<MatchedPath>();
        let known = route.and_then(|route| app.operations.find(&parts.method, route.as_str()));
        let Some(needed) = known.and_then(|known| known.scopes) else {
            return Err(ApiError::forbidden("A token with scopes is not good for this"));
        };
        match needed.iter().find(|scope| !scopes.contains(*scope)) {
            Some(scope) => Err(lacking_token(scope)),
            None => Ok(()),
        }
    }

    /// Whether it is a user without the admin role.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        matches!(self.principal, Principal::User(_)) && !self.principal.is_admin()
    }

    /// Refuses a service key without the scope; users pass.
    ///
    /// # Errors
    /// 403.
    pub fn needs(&self, scope: Scope) -> Result<(), ApiError> {
        let lacks = matches!(self.principal, Principal::Service(_)) && !self.principal.has(scope);
        if lacks { Err(lacking(scope)) } else { Ok(()) }
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = Self::uncounted(parts, app).await?;
        app.rate_limiter.authenticated(&caller.facts, &caller.principal).await?;
        caller.token_is_good_for(app, parts)?;
        audit::around::arm(app, parts, &caller).await?;
        Ok(caller)
    }
}

impl Caller {
    /// Whoever asks, authenticated and neither counted nor asked for scopes: for a transport that carries requests
    /// of its own, each of which is.
    ///
    /// # Errors
    /// 401, 403 for whoever is suspended, or 503.
    pub async fn uncounted(parts: &Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let facts = parts.extensions.get::<Arc<RequestFacts>>().cloned();
        let facts = facts.ok_or_else(|| ApiError::internal("a route is not within http::around"))?;
        let mut principal = app.auth.authenticate_from(&parts.headers, facts.client_ip).await?;
        if let Principal::User(user) = &mut principal {
            let book = app.identities.book();
            if let Some(survivor) = book.aliases.get(&user.subject) {
                user.subject = survivor.auth0_id.clone();
            }
            if book.is_suspended(&user.subject) {
                let _ = facts.principal.set(principal.kind());
                return Err(suspended());
            }
        }
        let _ = facts.principal.set(principal.kind());
        Ok(Self { principal, facts })
    }

    /// Whether it may call a route at all, by the scopes that the document names for it; for whom it may is decided
    /// where it does.
    #[must_use]
    pub fn may_call(&self, route: &Known) -> bool {
        if !route.class.authenticated() || self.principal.is_admin() {
            return true;
        }
        match (&self.principal, route.scopes) {
            (Principal::User(UserPrincipal { scopes: None, .. }), _) => true,
            (Principal::User(UserPrincipal { scopes: Some(scopes), .. }), Some(needed)) => {
                scopes.covers(needed)
            }
            (Principal::Service(_), Some(needed)) => needed.iter().all(|scope| self.principal.has(scope)),
            (_, None) => false,
        }
    }

    /// What is known of the request, to be kept beyond it.
    #[must_use]
    pub fn shared_facts(&self) -> Arc<RequestFacts> {
        Arc::clone(&self.facts)
    }
}

/// An admin, by the role of its token or by the scope of its key.
pub struct Admin {
    /// Who.
    pub caller: Caller,
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, app).await?;
        if caller.principal.is_admin() {
            Ok(Self { caller })
        } else {
            Err(ApiError::forbidden("This needs an admin"))
        }
    }
}

/// Permissions that a key has by a scope, an admin by its role, and a plain user never.
macro_rules! for_programs {
    ($($(#[$doc:meta])* $name:ident($scope:ident);)+) => {$(
        $(#[$doc])*
        pub struct $name {
            /// Who.
            pub caller: Caller,
        }

        impl FromRequestParts<Arc<App>> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
                let caller = Caller::from_request_parts(parts, app).await?;
                if caller.is_plain() {
                    return Err(not_for_users());
                }
                caller.needs(Scope::$scope)?;
                Ok(Self { caller })
            }
        }
    )+};
}

for_programs! {
    /// A key, or an admin, that may have tokens issued for users.
    TokenIssuer(TokensIssue);
    /// A key, or an admin, that may see who is told what.
    WebhookReader(WebhooksRead);
    /// A key, or an admin, that may decide who is told what.
    WebhookWriter(WebhooksWrite);
}

/// A caller that may do `P` to the user of the path.
pub struct OnUser<P> {
    /// To whom.
    pub user: UserRef,
    /// Who.
    pub caller: Caller,
    permission: PhantomData<P>,
}

impl<P: Permission> FromRequestParts<Arc<App>> for OnUser<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let named = path_parameter(parts, app, "user_id").await?;
        let key: UserKey =
            named.parse().map_err(|rule| ApiError::invalid(["path", "user_id"], format!("{rule}")))?;
        let user = reach(app, &caller, &key, P::REMEMBERED).await?;
        allow::<P>(app, &caller.principal)?;
        audit::target(|| format!("user:{}", user.row.0));
        Ok(Self { user, caller, permission: PhantomData })
    }
}

/// Finds the user, unless it is not the caller's to know.
async fn reach(app: &App, caller: &Caller, key: &UserKey, remembered: bool) -> Result<UserRef, ApiError> {
    let not_found = || ApiError::user_not_found(key.as_external().as_str());
    let own = caller.subject() == Some(key.as_external());
    let found = if own || !caller.is_plain() {
        store::find_key(app, key, remembered).await?
    } else {
        store::find_key(app, key, false).await?
    };
    let user = found.ok_or_else(not_found)?;
    if caller.is_plain() && caller.subject() != Some(&user.auth0_id) {
        return Err(ApiError::forbidden("This user's resources are not yours"));
    }
    Ok(user)
}

fn allow<P: Permission>(app: &App, principal: &Principal) -> Result<(), ApiError> {
    let allowed = principal.is_admin()
        || match principal {
            Principal::Service(_) => match lacked::<P>(principal) {
                None => true,
                Some(scope) => return Err(lacking(scope)),
            },
            Principal::User(user) if user.scopes.is_some_and(|scopes| without::<P>(scopes).is_some()) => {
                false
            }
            Principal::User(_) => match P::OWN {
                Own::Yes => true,
                Own::No => false,
                Own::SelfRecharge => app.config.allow_self_recharge,
            },
        };
    if allowed { Ok(()) } else { Err(not_for_users()) }
}

fn not_for_users() -> ApiError {
    ApiError::forbidden("A user cannot do this; it needs a service key or an admin")
}

/// The first scope of a permission that is not in a set.
fn without<P: Permission>(scopes: Scopes) -> Option<Scope> {
    P::SCOPES.iter().copied().find(|scope| !scopes.contains(*scope))
}

/// The first scope of a permission that a service key does not have.
fn lacked<P: Permission>(principal: &Principal) -> Option<Scope> {
    P::SCOPES.iter().copied().find(|scope| !principal.has(*scope))
}

fn lacking_token(scope: Scope) -> ApiError {
    ApiError::forbidden(format!("The token lacks the scope {scope}"))
}

fn lacking(scope: Scope) -> ApiError {
    ApiError::forbidden(format!("The key lacks the scope {scope}"))
}

/// A caller that may do `P` to the session of the path.
pub struct OnSession<P> {
    /// To which.
    pub session: SessionRef,
    /// Who.
    pub caller: Caller,
    permission: PhantomData<P>,
}

impl<P: Permission> FromRequestParts<Arc<App>> for OnSession<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let named = path_parameter(parts, app, "session_id").await?;
        let found = sessions::store::find_ref(app, &named, P::REMEMBERED).await?;
        let session = found.ok_or_else(|| sessions::api::not_found(&named))?;
        if caller.is_plain() && caller.subject() != Some(&session.auth0_id) {
            return Err(ApiError::forbidden("This session is not yours"));
        }
        allow::<P>(app, &caller.principal)?;
        Ok(Self { session, caller, permission: PhantomData })
    }
}

/// The refusal of whoever is suspended, and of spending for them.
fn suspended() -> ApiError {
    ApiError::forbidden("This account is suspended")
}

impl Caller {
    /// Whether what the caller began to watch is over: it is a user who is suspended, or what it came with is not
    /// accepted any more, because its time is over or its key was taken back.
    pub fn revoked(
        &self,
        app: &Arc<App>,
        headers: &HeaderMap,
    ) -> impl Fn() -> BoxFuture<'static, bool> + Send + Sync + 'static {
        let shown = headers.iter().filter(|(name, _)| **name == AUTHORIZATION || **name == API_KEY);
        let shown: Arc<HeaderMap> =
            Arc::new(shown.map(|(name, value)| (name.clone(), value.clone())).collect());
        let (app, subject, address) = (Arc::clone(app), self.subject().cloned(), self.facts.client_ip);
        move || {
            let (app, shown, subject) = (Arc::clone(&app), Arc::clone(&shown), subject.clone());
            async move {
                let suspended = subject.is_some_and(|subject| app.identities.book().is_suspended(&subject));
                // Where it cannot be judged now, the stream goes on: its reads will say what is the matter.
                let judged = app.auth.authenticate_from(&shown, address);
                suspended || matches!(judged.await, Err(error) if error.is_final())
            }
            .boxed()
        }
    }

    /// Refuses new spending for a suspended user, unless an admin asks.
    ///
    /// # Errors
    /// 403.
    pub fn may_spend_of(&self, app: &App, user: UserRowId) -> Result<(), ApiError> {
        let refused = !self.principal.is_admin() && app.identities.book().suspended_rows.contains(&user);
        if refused { Err(suspended()) } else { Ok(()) }
    }
}

async fn path_parameter(parts: &mut Parts, app: &Arc<App>, name: &str) -> Result<String, ApiError> {
    let params = RawPathParams::from_request_parts(parts, app)
        .await
        .map_err(|_| ApiError::invalid(["path", name], "must be UTF-8"))?;
    Ok(params
        .iter()
        .find(|(given, _)| *given == name)
        .map_or_else(String::new, |(_, value)| value.to_owned()))
}

/// Makes permissions: name, scopes, whether a user may do it to itself, whether a remembered row will do.
macro_rules! permissions {
    ($($(#[$doc:meta])* $alias:ident = $name:ident($($scope:ident)&+, $own:ident, $remembered:literal);)+) => {$(
        $(#[$doc])*
        pub struct $name;

        impl Permission for $name {
            const SCOPES: &'static [Scope] = &[$(Scope::$scope),+];
            const OWN: Own = Own::$own;
            const REMEMBERED: bool = $remembered;
        }

        $(#[$doc])*
        pub type $alias = OnUser<$name>;
    )+};
}

permissions! {
    /// May read the user.
    CanReadUser = ReadUser(UsersRead, Yes, false);
    /// May change or delete the user.
    CanWriteUser = WriteUser(UsersWrite, Yes, false);
    /// May take away all that is kept about the user.
    CanExport = ExportUser(UsersRead & UsageRead & CreditsRead & SessionsRead & FilesRead, Yes, false);
    /// May read the user's usage.
    CanReadUsage = ReadUsage(UsageRead, Yes, false);
    /// May record usage for the user.
    CanWriteUsage = WriteUsage(UsageWrite, Yes, true);
    /// May read the balance.
    CanReadBalance = ReadBalance(CreditsRead, Yes, true);
    /// May read the transactions and grants.
    CanReadCredits = ReadCredits(CreditsRead, Yes, false);
    /// May spend the user's credits.
    CanSpend = Spend(CreditsSpend, Yes, true);
    /// May record usage and spend the user's credits for it.
    CanCharge = ChargeUsage(UsageWrite & CreditsSpend, Yes, true);
    /// May add bought credits.
    CanRecharge = Recharge(CreditsGrant, SelfRecharge, true);
    /// May read the user's files.
    CanReadFiles = ReadFiles(FilesRead, Yes, false);
    /// May upload and delete the user's files.
    CanWriteFiles = WriteFiles(FilesWrite, Yes, false);
    /// May give credits, and give spent ones back.
    CanGrant = GrantCredits(CreditsGrant, No, true);
    /// May set the user's plan, which gives credits.
    CanSetPlan = SetPlan(UsersWrite & CreditsGrant, No, false);
    /// May list and search what the user said.
    CanReadSessions = ReadSessions(SessionsRead, Yes, false);
    /// May begin a session of the user.
    CanCreateSession = CreateSession(SessionsWrite, Yes, true);
    /// May watch the user's balance and usage.
    CanWatchUser = WatchUser(CreditsRead & UsageRead, Yes, false);
    /// May change a session.
    CanWriteSessions = WriteSessions(SessionsWrite, Yes, false);
}

/// May read the session of the path.
pub type CanReadSession = OnSession<ReadSessions>;
/// May change the session of the path.
pub type CanWriteSession = OnSession<WriteSessions>;
/// May add to the session of the path.
pub type CanAppend = OnSession<CreateSession>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ServicePrincipal;

    #[test]
    fn a_key_needs_every_scope_of_a_permission() {
        for (scopes, wanted) in [
            ("usage:read", Some(Scope::CreditsRead)),
            ("credits:read", Some(Scope::UsageRead)),
            ("credits:read usage:read", None),
            ("admin", None),
        ] {
            let scopes = scopes.parse().expect("scopes");
            let key = Principal::Service(ServicePrincipal {
                key_id: "k1".into(),
                scopes,
                requests_per_minute: None,
            });
            assert_eq!(lacked::<WatchUser>(&key), wanted);
        }
        for (scopes, wanted) in [
            ("credits:spend", Some(Scope::UsageWrite)),
            ("usage:write", Some(Scope::CreditsSpend)),
            ("credits:spend usage:write", None),
        ] {
            let scopes = scopes.parse().expect("scopes");
            let key = Principal::Service(ServicePrincipal {
                key_id: "k1".into(),
                scopes,
                requests_per_minute: None,
            });
            assert_eq!(lacked::<ChargeUsage>(&key), wanted);
        }
    }
}

//! What events say: the keys that stand beside `type`, and `data`, which is what the API itself answers about that thing.
//!
//! No body has what a message, a file, or a request's or response's data says. Where a user is known by its
//! row only, its place is left open until the event is kept ([`USER_PLACE`]);
//! where a row gets its id when the edit is planned, it has [`FRESH`] until then.

use crate::auth::grants::UserRef;
use crate::credits::context::Context;
use crate::credits::hold::Hold;
use crate::credits::holds_view::HoldView;
use crate::credits::view::TransactionView;
use crate::credits::{Account, Entry};
use crate::limits::view::LimitAlert;
use crate::payments::model::Payment;
use crate::payments::view::PaymentView;
use crate::sessions::Message;
use crate::sessions::api::SessionView;
use crate::sessions::model::{Role, Session};
use crate::subscriptions::model::Subscription;
use crate::subscriptions::view::SubscriptionView;
use crate::usage::UsageRecord;
use crate::usage::api::UsageView;
use crate::usage::model::UsageFacts;
use crate::users::api::Profile;
use kernel::{Credits, ExternalId, HoldId, JsonObject, Timestamp, Usd, UserRowId};
use serde::Serialize;
use std::sync::{Arc, LazyLock};
use utoipa::ToSchema;

/// What stands in a body for the external id of its user: no JSON text has it anywhere else.
pub const USER_PLACE: char = '\u{1}';
/// The id, in a body, of a row that is to get a fresh one.
pub const FRESH: i64 = i64::MIN;

/// How a view is made whose user's external id is not known; [`text`] leaves its place open.
static UNNAMED: LazyLock<Option<ExternalId>> = LazyLock::new(|| "@".parse().ok());
/// How that is written. In every view it comes before whatever callers say, in whose strings quotes are escaped.
const UNNAMED_TEXT: &str = "\"user_id\":\"@\"";

/// Builds a body with a name for its user that is filled in where the event is kept.
fn unnamed<T>(make: impl FnOnce(&ExternalId) -> T) -> Option<T> {
    UNNAMED.as_ref().map(make)
}

/// The text of a body.
#[must_use]
pub fn text(body: &impl Serialize) -> String {
    // Bodies are structs of texts and numbers, which always serialise.
    let mut text = serde_json::to_string(body).unwrap_or_default();
    if let Some(at) = text.find(UNNAMED_TEXT) {
        text.replace_range(at..at + UNNAMED_TEXT.len(), "\"user_id\":\"\u{1}\"");
    }
    text
}

/// Credits moved.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreditEvent {
    /// How many credits moved, without sign.
    amount: Credits,
    /// The balance after.
    balance_after: Credits,
    /// The transaction.
    data: TransactionView,
}

impl CreditEvent {
    /// What an entry is to others.
    #[must_use]
    pub fn new(entry: &Entry) -> Option<Self> {
        let data = unnamed(|user| TransactionView::new(entry, user))?;
        Some(Self { amount: entry.amount.abs(), balance_after: entry.balance_after, data })
    }
}

/// Few credits are left.
#[derive(Debug, Serialize, ToSchema)]
pub struct LowBalanceEvent {
    /// What can be spent now, on anything.
    available: Credits,
    /// What it fell below.
    threshold: Credits,
    /// The account.
    data: AccountState,
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountState {
    /// Whose it is.
    user_id: ExternalId,
    /// What can be spent now, on anything: 0 where the account owes more than its limit.
    available: Credits,
    /// What open holds have set aside.
    held: Credits,
    /// What is left in all grants, less what is owed.
    balance: Credits,
    /// How far below zero the account may go.
    credit_limit: Credits,
}

impl AccountState {
    fn new(account: &Account, now: Timestamp) -> Option<Self> {
        let available = account.free_for(&Context::default(), now).max(Credits::ZERO);
        unnamed(|user| Self {
            user_id: user.clone(),
            available,
            held: account.held,
            balance: account.balance,
            credit_limit: account.credit_limit,
        })
    }
}

impl LowBalanceEvent {
    /// An account of which nothing is due fell below that.
    #[must_use]
    pub fn new(account: &Account, threshold: Credits, now: Timestamp) -> Option<Self> {
        let data = AccountState::new(account, now)?;
        Some(Self { available: data.available, threshold, data })
    }
}

/// A credit limit was changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreditLimitEvent {
    /// How far below zero the account may go now.
    credit_limit: Credits,
    /// The account.
    data: AccountState,
}

impl CreditLimitEvent {
    /// An account, of which nothing is due, with its new limit.
    #[must_use]
    pub fn new(account: &Account, now: Timestamp) -> Option<Self> {
        let data = AccountState::new(account, now)?;
        Some(Self { credit_limit: account.credit_limit, data })
    }
}

/// Something became of a hold.
#[derive(Debug, Serialize, ToSchema)]
pub struct HoldEvent {
    /// The hold's id.
    hold_id: HoldId,
    /// What is set aside, or was until it was settled.
    amount: Credits,
    /// The hold.
    data: HoldView,
}

impl HoldEvent {
    /// A hold as it now stands.
    #[must_use]
    pub fn new(user: UserRowId, hold: &Hold) -> Option<Self> {
        let data = unnamed(|name| HoldView::new(hold, &UserRef { row: user, auth0_id: name.clone() }))?;
        Some(Self { hold_id: hold.id(user), amount: hold.amount, data })
    }
}

/// Something became of a user.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserEvent {
    /// The user.
    pub data: Profile,
}

/// Another user became part of this one.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserMergedEvent {
    /// The identity that ended; from now on it names the user of this event.
    merged_from: ExternalId,
    /// Both.
    data: MergedUsers,
}

/// Two identities of one person.
#[derive(Debug, Serialize, ToSchema)]
pub struct MergedUsers {
    /// The user that survives.
    user_id: ExternalId,
    /// The identity that ended.
    merged_from: ExternalId,
}

impl UserMergedEvent {
    /// That identity became part of the event's user.
    #[must_use]
    pub fn new(from: &ExternalId) -> Option<Self> {
        let data = unnamed(|user| MergedUsers { user_id: user.clone(), merged_from: from.clone() })?;
        Some(Self { merged_from: from.clone(), data })
    }
}

/// A usage record was written or rated.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageEvent {
    /// The record's id.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    usage_record_id: i64,
    /// What kind of usage; `event_type` is the kind of this event.
    #[schema(max_length = 100)]
    usage_event_type: String,
    /// Credits that were charged for it.
    credits_charged: Credits,
    /// What it cost.
    cost_usd: Usd,
    /// All tokens.
    #[schema(minimum = 0, maximum = 2_147_483_647)]
    tokens_used: i64,
    /// The record; its `request_data` and `response_data` are not told.
    data: UsageView,
}

impl UsageEvent {
    /// A record, without what the request and the response say.
    #[must_use]
    pub fn new(record: &UsageRecord) -> Option<Self> {
        let facts = &record.facts;
        let silent = UsageFacts {
            request_data: JsonObject::default(),
            response_data: JsonObject::default(),
            ..(**facts).clone()
        };
        let silent = UsageRecord { facts: Arc::new(silent), ..record.clone() };
        Some(Self {
            usage_record_id: record.id,
            usage_event_type: facts.event_type.clone(),
            credits_charged: facts.credits_charged,
            cost_usd: Usd::from_nano(facts.cost_usd.into()),
            tokens_used: facts.tokens_used,
            data: unnamed(|user| UsageView::new(silent, user))?,
        })
    }
}

/// Something became of a session.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionEvent {
    /// The session's id.
    #[schema(max_length = 36, value_type = String)]
    session_id: Arc<str>,
    /// The session; its `conversation_data` and `session_summary` are not told.
    data: SessionView,
}

impl SessionEvent {
    /// A session as it then stands, without what was said in it.
    #[must_use]
    pub fn new(session: Session, now: Timestamp) -> Option<Self> {
        let session_id = Arc::clone(&session.session_id);
        let silent = Session { conversation_data: JsonObject::default(), session_summary: None, ..session };
        Some(Self { session_id, data: unnamed(|user| SessionView::new(silent, user, now))? })
    }
}

/// A message was added.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageEvent {
    /// The session's id.
    #[schema(max_length = 36, value_type = String)]
    session_id: Arc<str>,
    /// The message's id.
    #[schema(max_length = 36, value_type = String)]
    message_id: Arc<str>,
    /// Its tokens.
    #[schema(minimum = 0, maximum = 2_147_483_647)]
    tokens_used: i64,
    /// What it cost.
    cost_usd: Usd,
    /// The message, without what it says.
    data: AddedMessage,
}

/// A message without what it says.
#[derive(Debug, Serialize, ToSchema)]
pub struct AddedMessage {
    /// The public id, a UUID.
    #[schema(max_length = 36, value_type = String)]
    id: Arc<str>,
    /// In which session.
    #[schema(max_length = 36, value_type = String)]
    session_id: Arc<str>,
    /// Whose it is.
    user_id: ExternalId,
    /// What kind of message.
    #[schema(max_length = 50)]
    message_type: String,
    /// Who says it.
    role: Role,
    /// Its tokens.
    #[schema(minimum = 0, maximum = 2_147_483_647)]
    tokens_used: i64,
    /// What it cost.
    cost_usd: Usd,
    /// When it was added.
    created_at: Timestamp,
}

impl MessageEvent {
    /// A message that was added.
    #[must_use]
    pub fn new(message: &Message) -> Option<Self> {
        let (facts, cost_usd) = (&message.new.facts, Usd::from_nano(message.new.facts.cost_usd.into()));
        let (id, session) = (&message.new.message_id, &message.session.session_id);
        let data = unnamed(|user| AddedMessage {
            id: Arc::clone(id),
            session_id: Arc::clone(session),
            user_id: user.clone(),
            message_type: facts.message_type.clone(),
            role: facts.role,
            tokens_used: facts.tokens_used,
            cost_usd,
            created_at: message.created_at,
        })?;
        let (session_id, message_id) = (Arc::clone(session), Arc::clone(id));
        Some(Self { session_id, message_id, tokens_used: facts.tokens_used, cost_usd, data })
    }
}

/// Something became of a subscription.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionEvent {
    /// The plan's key.
    #[schema(max_length = 50)]
    plan_type: String,
    /// The subscription.
    data: SubscriptionView,
}

impl SubscriptionEvent {
    /// A subscription as it then stands.
    #[must_use]
    pub fn new(of: Subscription) -> Option<Self> {
        let plan_type = of.plan.clone();
        Some(Self { plan_type, data: unnamed(|user| SubscriptionView::new(of, user))? })
    }
}

/// Something became of a payment.
#[derive(Debug, Serialize, ToSchema)]
pub struct PaymentEvent {
    /// How much this is about, in hundredths of the currency: what is to come or has come, what was given
    /// back in all, or what a bank has taken back, which is 0 where it gave that back.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    amount: i64,
    /// Which currency.
    #[schema(max_length = 3)]
    currency: String,
    /// The payment.
    data: PaymentView,
}

impl PaymentEvent {
    /// A payment as it then stands.
    #[must_use]
    pub fn new(of: Payment, amount: i64) -> Option<Self> {
        let currency = of.currency.clone();
        Some(Self { amount, currency, data: unnamed(|user| PaymentView::new(of, user))? })
    }
}

/// So much of a spending limit is spent.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitEvent {
    /// The limit's name.
    #[schema(max_length = 100)]
    pub limit_id: String,
    /// Which part of it was passed, in hundredths: 80 or 100.
    #[schema(minimum = 80, maximum = 100)]
    pub percent: i64,
    /// The limit.
    pub data: LimitAlert,
}

/// An automatic top-up was turned off.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopUpDisabledEvent {
    /// Why.
    #[schema(max_length = 20_000)]
    pub reason: String,
    /// Of whom, and which payment it was about.
    pub data: DisabledTopUp,
}

/// An automatic top-up that was turned off.
#[derive(Debug, Serialize, ToSchema)]
pub struct DisabledTopUp {
    /// Whose it is.
    user_id: ExternalId,
    /// The payment that failed, or whose money went back.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    payment_id: i64,
}

impl TopUpDisabledEvent {
    /// The top-up of a payment's user was turned off.
    #[must_use]
    pub fn new(of: &Payment, reason: &str) -> Option<Self> {
        let data = unnamed(|user| DisabledTopUp { user_id: user.clone(), payment_id: of.id })?;
        Some(Self { reason: reason.to_owned(), data })
    }
}

/// A row of the ledger does not fit.
#[derive(Debug, Serialize, ToSchema)]
pub struct LedgerMismatchEvent {
    /// Which rule the first bad row breaks.
    #[schema(max_length = 1000)]
    pub rule: String,
    /// What the verification found.
    pub data: crate::credits::verify::watch::VerificationView,
}

/// An endpoint was disabled.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookDisabledEvent {
    /// The endpoint's id.
    #[schema(max_length = 40)]
    pub endpoint_id: String,
    /// `gone`: it answered 410. `failing`: it failed for days.
    #[schema(max_length = 20)]
    pub reason: String,
    /// The endpoint.
    pub data: DisabledEndpoint,
}

/// An endpoint that was disabled.
#[derive(Debug, Serialize, ToSchema)]
pub struct DisabledEndpoint {
    /// Its id.
    #[schema(max_length = 40)]
    pub endpoint_id: String,
    /// Where it was sent to.
    #[schema(max_length = 2048)]
    pub url: String,
    /// Since when it failed.
    pub failing_since: Option<Timestamp>,
    /// When it was disabled.
    pub disabled_at: Timestamp,
}

//! The table of tools: names and words for agents. What they take and answer stands in the OpenAPI document.

/// A tool as agents see it, and the operation that it stands for.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it does, for a model.
    pub about: &'static str,
    /// The operation's id in the document.
    pub operation: &'static str,
    /// Whether it takes `auth0_id` or `user_id`.
    pub names_user: bool,
    /// What calling it does to the world.
    pub effect: Effect,
}

/// What calling a tool does to the world, which becomes its annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Reads,
    /// It adds something, each time that it is called.
    Adds,
    /// It takes credits away, each time that it is called.
    Spends,
    /// It changes or takes away what is there; calling it again changes nothing more.
    Changes,
}

impl Effect {
    /// The annotations `readOnlyHint`, `destructiveHint`, `idempotentHint`.
    #[must_use]
    pub const fn hints(self) -> (bool, bool, bool) {
        match self {
            Self::Reads => (true, false, true),
            Self::Adds => (false, false, false),
            Self::Spends => (false, true, false),
            Self::Changes => (false, true, true),
        }
    }
}

const fn row(
    name: &'static str,
    operation: &'static str,
    names_user: bool,
    effect: Effect,
    title: &'static str,
    about: &'static str,
) -> Row {
    Row { name, title, about, operation, names_user, effect }
}

/// The tools, in the order in which they are listed.
pub const TOOLS: [Row; 16] = [
    row(
        "user_ensure_exists",
        "ensure_user",
        true,
        Effect::Changes,
        "Make a user, or refresh it",
        "Makes the user of that id with its welcome credits, or refreshes its e-mail and name. Safe to call before anything \
         else: `created` says whether this call made it.",
    ),
    row(
        "user_get_info",
        "get_user",
        true,
        Effect::Reads,
        "Read a user",
        "Who a user is: e-mail, name, plan, credits left, whether it is active.",
    ),
    row(
        "credits_consume",
        "consume_credits",
        true,
        Effect::Spends,
        "Spend credits",
        "Takes credits from a user's balance at once. Never takes more than there is: then nothing changes, and `details` \
         says what is `required` and `available`. Give an `idempotency_key` to be able to repeat a call safely.",
    ),
    row(
        "user_service_status",
        "get_health",
        false,
        Effect::Reads,
        "Check the service",
        "Whether the service and what it stands on work, and which version answers.",
    ),
    row(
        "credits_balance",
        "get_balance",
        true,
        Effect::Reads,
        "Read a balance",
        "What a user can spend now, what is held, and which credits expire when.",
    ),
    row(
        "credits_quote",
        "get_quote",
        false,
        Effect::Reads,
        "Quote a model call",
        "What a call of a model would cost in credits, and at most, by the price book. Nothing is charged.",
    ),
    row(
        "usage_charge",
        "create_charge",
        true,
        Effect::Spends,
        "Record usage and pay for it",
        "Records what was used and takes its price from the balance in one step. The price comes from the price book, or is \
         given as `credits`. An `event_id` is charged once for ever.",
    ),
    row(
        "credits_hold",
        "create_hold",
        true,
        Effect::Adds,
        "Set credits aside",
        "Sets credits aside for work whose cost is known only when it is done; nobody else can spend them meanwhile. Answers \
         with a `hold_id` for credits_capture or credits_release; a hold that nobody settles ends by itself.",
    ),
    row(
        "credits_capture",
        "capture_hold",
        true,
        Effect::Changes,
        "Charge a hold",
        "Charges what the work cost to a hold and gives the rest back.",
    ),
    row(
        "credits_release",
        "release_hold",
        true,
        Effect::Changes,
        "Give a hold back",
        "Gives all the credits of a hold back: nothing is charged.",
    ),
    row(
        "usage_stats",
        "get_usage_stats",
        true,
        Effect::Reads,
        "Sum usage up",
        "How many records, credits, dollars and tokens a user used in a span of time, by type, model and provider.",
    ),
    row(
        "session_create",
        "create_session",
        true,
        Effect::Adds,
        "Begin a session",
        "Begins a session for a conversation. Answers with the `session_id` that session_append and session_messages take.",
    ),
    row(
        "session_append",
        "add_message",
        false,
        Effect::Adds,
        "Add a message to a session",
        "Adds what was said to a session.",
    ),
    row(
        "session_messages",
        "list_messages",
        false,
        Effect::Reads,
        "Read a session's messages",
        "What was said in a session, a page at a time; `pagination.next_cursor` leads to the next page.",
    ),
    row(
        "limits_check",
        "check_limits",
        true,
        Effect::Reads,
        "Ask whether a spend is within the limits",
        "Whether the spending limits would let a spend pass, and how each of them stands. Nothing is spent; the balance is not \
         asked.",
    ),
    row(
        "transaction_explain",
        "explain_transaction",
        true,
        Effect::Reads,
        "Explain a transaction",
        "Why a transaction is what it is: price, arithmetic, which credits paid, who asked and by which request.",
    ),
];

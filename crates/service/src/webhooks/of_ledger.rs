//! What the ledger's changes are to others: its entries, holds, limits, and what is left.

use super::bodies::{CreditEvent, CreditLimitEvent, HoldEvent, LimitEvent, LowBalanceEvent, text};
use super::{EventType, Kinds};
use crate::credits::hold::{Hold, HoldStatus};
use crate::credits::{Account, Entry, EntryKind};
use crate::limits::view::LimitAlert;
use crate::limits::{CounterKey, Limit, Move, Used, rules::Standing};
use crate::writer::Changes;
use kernel::{Credits, Timestamp, UserRowId};
use std::collections::HashMap;

/// The parts of a spending limit, in hundredths, that others are told of when they are spent.
const TOLD_AT: [(i128, EventType); 2] =
    [(80, EventType::AlertLimitThreshold), (100, EventType::AlertLimitReached)];

/// Notes what an entry is to others.
pub fn of_entry(changes: &mut Changes, wanted: Kinds, entry: &Entry) {
    let kind = match entry.kind {
        EntryKind::Consume | EntryKind::Capture => EventType::CreditConsumed,
        EntryKind::Recharge => EventType::CreditRecharged,
        EntryKind::Grant => EventType::CreditGranted,
        EntryKind::Refund => EventType::CreditRefunded,
        EntryKind::Reversal => EventType::CreditReversed,
        EntryKind::Expire => EventType::CreditExpired,
        EntryKind::Adjust => EventType::CreditAdjusted,
    };
    changes.tell(wanted, (kind, entry.user, entry.created_at), || text(&CreditEvent::new(entry)));
}

/// What of an open hold a tick may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticking {
    costs: (Credits, Credits),
    expires_at: Timestamp,
}

impl Ticking {
    /// Of that hold, as it stands.
    #[must_use]
    pub const fn of(hold: &Hold) -> Self {
        Self { costs: (hold.ticked, hold.amount), expires_at: hold.expires_at }
    }
}

/// Notes what became of a hold; `before` is how it stood before a tick.
pub fn of_hold(
    changes: &mut Changes,
    wanted: Kinds,
    (user, at): (UserRowId, Timestamp),
    hold: &Hold,
    before: Option<Ticking>,
) {
    let now = Ticking::of(hold);
    let kind = match (hold.status, before) {
        (HoldStatus::Captured, _) => EventType::HoldCaptured,
        (HoldStatus::Released, _) => EventType::HoldReleased,
        (HoldStatus::Expired, _) => EventType::HoldExpired,
        (HoldStatus::Open, None) => EventType::HoldCreated,
        (HoldStatus::Open, Some(before)) if before.costs != now.costs => EventType::HoldTicked,
        (HoldStatus::Open, Some(before)) if before != now => EventType::HoldExtended,
        (HoldStatus::Open, Some(_)) => return,
    };
    changes.tell(wanted, (kind, user, at), || text(&HoldEvent::new(user, hold)));
}

/// Notes which limits' parts are spent by what moves; `counters` is how they stood before.
pub fn of_moves(
    changes: &mut Changes,
    wanted: Kinds,
    (user, at): (UserRowId, Timestamp),
    limits: &[Limit],
    counters: &HashMap<CounterKey, Used>,
    moves: &[Move],
) {
    if moves.is_empty() || !TOLD_AT.iter().any(|(_, kind)| wanted.has(*kind)) {
        return;
    }
    let mut seen: HashMap<&CounterKey, Used> = HashMap::new();
    for one in moves {
        let Some(limit) = limits.iter().find(|limit| limit.amount > 0 && limit.key() == one.key.limit) else {
            continue;
        };
        let used =
            seen.entry(&one.key).or_insert_with(|| counters.get(&one.key).cloned().unwrap_or_default());
        let before = Standing::of(limit, used, 0, at).used;
        used.add(one.bucket, one.delta);
        let standing = Standing::of(limit, used, 0, at);
        for (percent, kind) in TOLD_AT {
            let spent = |used: i128| used * 100 >= i128::from(limit.amount) * percent;
            if !spent(before) && spent(standing.used) {
                let data = LimitAlert::new(limit, &one.key.value, standing);
                let percent = i64::try_from(percent).unwrap_or(100);
                let body = LimitEvent { limit_id: limit.id.clone(), percent, data };
                changes.tell(wanted, (kind, user, at), || text(&body));
            }
        }
    }
}

/// What an account had before a command, as far as others are told of what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    /// Absent where nobody is told that little is left.
    available: Option<Credits>,
    credit_limit: Credits,
}

impl Before {
    /// Of that account, as it was left by its last change: what time has taken since counts as taken by the command. What
    /// is free, for which every grant is looked at, is asked only where a threshold may be passed: one of 0 means never.
    #[must_use]
    pub fn of(account: &Account, threshold: Credits) -> Self {
        let free = || account.free_for(&crate::credits::context::Context::default(), account.updated_at);
        let available = (threshold > Credits::ZERO).then(free);
        Self { available, credit_limit: account.credit_limit }
    }
}

/// Notes that little is left, and that the credit limit is another one.
pub fn of_account(
    changes: &mut Changes,
    wanted: Kinds,
    account: &Account,
    (before, threshold): (Before, Credits),
    at: Timestamp,
) {
    let after = Before::of(account, threshold);
    if before.credit_limit != after.credit_limit {
        let told = (EventType::CreditLimitChanged, account.user, at);
        changes.tell(wanted, told, || text(&CreditLimitEvent::new(account, at)));
    }
    if before.available >= Some(threshold) && after.available.is_some_and(|left| left < threshold) {
        let told = (EventType::CreditLowBalance, account.user, at);
        changes.tell(wanted, told, || text(&LowBalanceEvent::new(account, threshold, at)));
    }
}

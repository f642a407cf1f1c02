//! What the ledger's entries are to others.

use super::{EventType, Outbox};
use crate::credits::{Entry, EntryKind};
use crate::writer::Changes;

/// Notes what an entry is to others.
pub fn of_entry(changes: &mut Changes, outbox: &Outbox, entry: &Entry) {
    let kind = match entry.kind {
        EntryKind::Consume | EntryKind::Capture => EventType::CreditConsumed,
        EntryKind::Recharge => EventType::CreditRecharged,
        EntryKind::Grant => EventType::CreditGranted,
        EntryKind::Refund => EventType::CreditRefunded,
        EntryKind::Reversal => EventType::CreditReversed,
        EntryKind::Expire => EventType::CreditExpired,
        EntryKind::Adjust => EventType::CreditAdjusted,
    };
    changes.tell(outbox, (kind, entry.user, entry.created_at), || {
        let (amount, after, id) = (entry.amount.abs(), entry.balance_after, entry.transaction_id());
        format!(r#"{{"amount":{amount},"balance_after":{after},"data":{{"transaction_id":"{id}"}}}}"#)
    });
}

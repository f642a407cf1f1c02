//! Whether what was taken back was given: the part of the replay that is about reversals.

use super::replay::Replay;
use super::{Halt, fault};
use crate::credits::model::{Entry, EntryKind, Grant};

/// Whether an entry takes back what a grant gave wherever it is now, and not only what is left of it.
pub(super) fn reclaims(entry: &Entry) -> bool {
    entry.kind == EntryKind::Reversal && entry.cause.reference_id.is_some()
}

/// Whether a reversal may take something of that grant: of the one that it names, and a reclaim also of
/// those that pay for anything.
pub(super) fn may_take_back(entry: &Entry, grant: &Grant) -> bool {
    let stands_in = reclaims(entry) && grant.scope.is_none() && grant.usable(entry.created_at);
    entry.cause.reverses == Some(grant.seq) || stands_in
}

impl Replay {
    /// Notes what a reversal has taken back, when its parts are taken.
    pub(super) fn reverse(&mut self, entry: &Entry) -> Result<(), Halt> {
        let bad = |rule: &str| fault("credit_entries", entry.transaction_id(), rule);
        let named = entry.cause.reverses.and_then(|seq| self.grants.get_mut(&seq));
        let Some(grant) = named else { return bad("it takes back a grant that was never issued") };
        let reversed = self.reversed.entry(grant.seq).or_default();
        *reversed -= entry.amount.micro();
        if *reversed > grant.amount.micro() {
            return bad("more of a grant is taken back than it gave");
        }
        let all = *reversed == grant.amount.micro();
        let voids = !reclaims(entry);
        if voids && grant.remaining.micro() > 0 && !all {
            return bad("it leaves something of the grant that it takes back");
        }
        grant.voided |= voids || all;
        Ok(())
    }
}

//! Whether the holds are what their rows were sealed as, and what the entries make of them.

use super::replay::Replay;
use super::snapshot::{Numbered, Snapshot};
use super::{Halt, fault};
use crate::credits::hold::{Hold, HoldStatus};
use crate::credits::model::Account;
use crate::credits::rows::{Sealed, hold_columns};
use kernel::Credits;
use std::collections::BTreeMap;

/// How many holds are read at once.
const HOLDS_AT_ONCE: i64 = 5_000;

const HOLDS: Numbered = Numbered {
    table: "credit_holds",
    prefix: "hld",
    rows: concat!(
        "SELECT ",
        hold_columns!(),
        " FROM credit_holds WHERE user_id = $1 AND n > $2 ORDER BY n LIMIT $3"
    ),
    keys: "SELECT n FROM credit_holds WHERE user_id = $1 AND n > $2 ORDER BY n LIMIT $3",
    one: concat!("SELECT ", hold_columns!(), " FROM credit_holds WHERE user_id = $1 AND n = $2"),
};

/// Compares an account's holds; gives back what open ones have set aside of each grant.
pub(super) async fn compare_holds(
    snapshot: &mut Snapshot,
    replay: &Replay,
    account: &Account,
) -> Result<BTreeMap<i64, i64>, Halt> {
    let mut holds = Holds { replay, last: 0, held: 0, parts: BTreeMap::new(), captured: 0 };
    loop {
        let values = [replay.user.0, holds.last, HOLDS_AT_ONCE];
        let rows = snapshot.numbered::<Sealed<Hold>>(&HOLDS, &values).await?;
        if rows.is_empty() {
            break;
        }
        rows.iter().try_for_each(|stored| holds.take(stored))?;
    }
    holds.compare(account)
}

/// What the rows say so far.
struct Holds<'a> {
    replay: &'a Replay,
    last: i64,
    held: i64,
    /// What open holds have set aside of each grant.
    parts: BTreeMap<i64, i64>,
    /// How many were charged.
    captured: usize,
}

impl Holds<'_> {
    fn take(&mut self, stored: &Sealed<Hold>) -> Result<(), Halt> {
        let hold = &stored.row;
        let id = hold.id(self.replay.user);
        let bad = |rule: &str| fault("credit_holds", id, rule);
        if hold.n != self.last + 1 {
            return bad("the hold before it is missing");
        }
        self.last = hold.n;
        if !stored.is(hold.seal(self.replay.user)) {
            return bad("seal is not the hash of the row");
        }
        if (hold.status == HoldStatus::Open) != hold.settled.is_none() {
            return bad("status and settled_at do not go together");
        }
        let parts: i64 = hold.parts.iter().map(|(_, part)| part.micro()).sum();
        if parts != hold.amount.micro() {
            return bad("parts do not sum to amount");
        }
        match &hold.settled {
            None => {
                self.held += hold.amount.micro();
                for (seq, part) in &hold.parts {
                    *self.parts.entry(*seq).or_default() += part.micro();
                }
            }
            Some(settled) => {
                let charged = settled.entry_seq.map(|seq| (seq, settled.captured));
                let capture = self.replay.captures.get(&id.to_string());
                if capture.map(|capture| (capture.seq, capture.amount)) != charged {
                    return bad("it was not charged by the entry that it names");
                }
                for (seq, part) in capture.iter().flat_map(|capture| &capture.ended) {
                    if hold.parts.iter().all(|(of, held)| of != seq || held < part) {
                        return bad("it was charged to a grant that had ended, beyond what it had set aside");
                    }
                }
                self.captured += usize::from(charged.is_some());
            }
        }
        Ok(())
    }

    fn compare(self, account: &Account) -> Result<BTreeMap<i64, i64>, Halt> {
        let user = self.replay.user;
        if self.last != account.hold_seq {
            return fault("credit_holds", format!("of user {user}"), "are not as many as were made");
        }
        if self.captured != self.replay.captures.len() {
            return fault(
                "credit_holds",
                format!("of user {user}"),
                "an entry names a hold that it did not charge",
            );
        }
        if Credits::from_micro(self.held) != account.held {
            return fault(
                "credit_accounts",
                format!("of user {user}"),
                "held is not the sum of its open holds",
            );
        }
        for (seq, held) in &self.parts {
            let left = self.replay.grants.get(seq).map_or(0, |grant| grant.remaining.micro());
            if *seq != 0 && *held > left {
                return fault(
                    "credit_holds",
                    format!("grt_{user}_{seq}"),
                    "holds have more of it than it has left",
                );
            }
        }
        Ok(self.parts)
    }
}

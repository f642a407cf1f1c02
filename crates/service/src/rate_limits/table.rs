//! Buckets in memory: at most [`KEYS_MAX`] of them, 16 bytes each, in time that does not grow.
//!
//! A bucket is a slot of two numbers: the hash of its key, and the instant at which its debt is paid. A
//! slot whose instant has passed is free, for an unknown bucket has no debt either; so nothing is ever
//! swept. A key's slot is one of the `WAYS` of the set that its hash names. Where all of them are in
//! debt, the shard doubles; where it may not, the bucket that is nearest to having paid is forgotten.
//! Hashes are keyed by chance, so that nobody can choose keys that meet.

use super::gcra::Quota;
use parking_lot::Mutex;
use std::hash::{BuildHasher as _, RandomState};

/// The most buckets that are remembered: 32 MiB.
pub const KEYS_MAX: usize = SHARDS * SETS_MAX * WAYS;
/// Parts with a lock each.
const SHARDS: usize = 64;
/// Slots that a key may be in.
const WAYS: usize = 16;
/// Sets of a shard at first, and at most; powers of two.
const SETS_MIN: usize = 4;
const SETS_MAX: usize = 2048;

/// A bucket: the hash of its key, and the microsecond at which its debt is paid.
type Slot = [u64; 2];

/// The buckets of this process.
#[derive(Debug)]
pub struct Table {
    shards: Vec<Mutex<Vec<Slot>>>,
    hasher: RandomState,
}

impl Default for Table {
    fn default() -> Self {
        let shard = || Mutex::new(vec![Slot::default(); SETS_MIN * WAYS]);
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect(), hasher: RandomState::new() }
    }
}

impl Table {
    /// Counts a request: whether it is allowed, and the debt afterwards.
    pub fn take(&self, key: &(&str, &str), now: u64, quota: Quota) -> (bool, u64) {
        self.with(key, now, |debt| match quota.take(debt) {
            Some(new) => (Some(new), (true, new)),
            None => (None, (false, debt)),
        })
    }

    /// The debt of a bucket.
    pub fn debt(&self, key: &(&str, &str), now: u64) -> u64 {
        self.with(key, now, |debt| (None, debt))
    }

    /// Puts down what a bucket's debt is elsewhere.
    pub fn set(&self, key: &(&str, &str), now: u64, debt: u64) {
        self.with(key, now, |_| (Some(debt), ()));
    }

    /// How many buckets are in debt. Looks at every slot.
    #[must_use]
    pub fn keys(&self, now: u64) -> usize {
        self.shards.iter().map(|shard| shard.lock().iter().filter(|slot| slot[1] > now).count()).sum()
    }

    /// Bytes that the slots take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().capacity() * size_of::<Slot>()).sum()
    }

    /// Shows `change` a bucket's debt, and keeps the one that it gives back.
    fn with<R>(&self, key: &(&str, &str), now: u64, change: impl FnOnce(u64) -> (Option<u64>, R)) -> R {
        let hash = self.hasher.hash_one(key);
        // The upper bits choose the shard, the lower ones the set in it.
        let mut shard = self.shards[(hash >> 58) as usize % SHARDS].lock();
        let found = set(&shard, hash).find(|at| shard[*at][0] == hash && shard[*at][1] > now);
        let debt = found.map_or(0, |at| shard[at][1] - now);
        let (new, result) = change(debt);
        if let Some(new) = new {
            let at = found.unwrap_or_else(|| room(&mut shard, hash, now));
            shard[at] = [hash, now.saturating_add(new)];
        }
        result
    }
}

/// The slots that a key may be in.
fn set(shard: &[Slot], hash: u64) -> std::ops::Range<usize> {
    let sets = shard.len() / WAYS;
    let first = (hash as usize & (sets - 1)) * WAYS;
    first..first + WAYS
}

/// A slot for a key that has none: a free one, or after the shard has doubled, or the one that is nearest
/// to being free.
fn room(shard: &mut Vec<Slot>, hash: u64, now: u64) -> usize {
    loop {
        let nearest = set(shard, hash).min_by_key(|at| shard[*at][1]).unwrap_or_default();
        if shard[nearest][1] <= now || shard.len() >= SETS_MAX * WAYS {
            return nearest;
        }
        double(shard, now);
    }
}

/// Doubles the sets; each one's buckets go to one of two.
fn double(shard: &mut Vec<Slot>, now: u64) {
    let mut larger = vec![Slot::default(); shard.len() * 2];
    for slot in shard.iter().filter(|slot| slot[1] > now) {
        // A new set takes from one old set alone, so there is always room.
        if let Some(at) = set(&larger, slot[0]).find(|at| larger[*at][1] <= now) {
            larger[at] = *slot;
        }
    }
    *shard = larger;
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { requests: 3, window: 60 };
    const NOW: u64 = 1_750_000_000_000_000;

    #[test]
    fn each_key_has_its_own_bucket_and_time_pays_it_off() {
        let table = Table::default();
        let take = |name, now| table.take(&("read", name), now, QUOTA);
        assert_eq!([take("a", NOW), take("a", NOW), take("a", NOW)].map(|(allowed, _)| allowed), [true; 3]);
        assert_eq!(take("a", NOW), (false, 60_000_000));
        assert_eq!(take("b", NOW), (true, 20_000_000));
        assert_eq!(table.take(&("write", "a"), NOW, QUOTA), (true, 20_000_000));
        assert_eq!(take("a", NOW + 20_000_000), (true, 60_000_000));
        assert_eq!(table.keys(NOW + 20_000_000), 1);
        assert_eq!(take("a", NOW + 80_000_000), (true, 20_000_000));
        table.set(&("read", "c"), NOW, 60_000_000);
        assert_eq!(table.debt(&("read", "c"), NOW + 1), 59_999_999);
        assert!(!take("c", NOW).0);
    }

    #[test]
    fn growing_forgets_nobody() {
        let table = Table::default();
        let names: Vec<String> = (0..200_000).map(|n| format!("auth0|{n}")).collect();
        for name in &names {
            for _ in 0..3 {
                assert!(table.take(&("read", name), NOW, QUOTA).0);
            }
        }
        assert_eq!(table.keys(NOW), names.len());
        assert!(names.iter().all(|name| !table.take(&("read", name), NOW, QUOTA).0));
    }

    #[test]
    fn it_is_bounded_and_forgets_who_is_nearest_to_having_paid() {
        let table = Table::default();
        for n in 0..64_u64 {
            table.set(&("read", &format!("exhausted {n}")), NOW, 60_000_000);
        }
        for n in 0..(KEYS_MAX + KEYS_MAX / 4) {
            table.take(&("read", &n.to_string()), NOW, QUOTA);
        }
        assert!(table.keys(NOW) <= KEYS_MAX);
        assert_eq!(table.bytes(), KEYS_MAX * 16);
        for n in 0..64 {
            assert!(!table.take(&("read", &format!("exhausted {n}")), NOW, QUOTA).0, "{n}");
        }
    }
}

//! The rules of limits, by example and against a list of everything that was ever spent.

use super::super::model::{self, LIMITS_MAX, Moves, SKEW_MICROS, USED_MAX};
use super::*;
use chrono::{DateTime, Datelike, Timelike, Utc};
use kernel::Credits;
use proptest::prelude::*;

const ALICE: UserRowId = UserRowId(1);
const MINUTE: i64 = 60_000_000;

fn at(text: &str) -> Timestamp {
    text.parse().expect(text)
}

fn limit(id: &str, per: Dimension, unit: Unit, window: &str, amount: i64) -> Limit {
    Limit { id: id.to_owned(), per, value: None, unit, window: window.parse().expect(window), amount }
}

fn request() -> Spend<'static> {
    Spend { requests: 1, ..Spend::default() }
}

/// A user with limits, as the writer sees it: counters, moved by what passes.
#[derive(Default)]
struct Stage {
    limits: Vec<Limit>,
    counters: HashMap<CounterKey, Used>,
    held: i64,
}

impl Stage {
    fn with(limits: Vec<Limit>) -> Self {
        Self { limits, ..Self::default() }
    }

    fn check(&self, spend: &Spend<'_>, now: Timestamp) -> Result<Vec<Move>, Denial> {
        check(&self.limits, ALICE, spend, &|_, _| self.held, &self.counters, now)
    }

    fn spend(&mut self, spend: &Spend<'_>, now: Timestamp) -> Result<(), Denial> {
        let moves = self.check(spend, now)?;
        apply(&mut self.counters, &moves);
        Ok(())
    }
}

#[test]
fn a_denial_says_which_limit_and_when_to_come_back() {
    let mut stage = Stage::with(vec![
        limit("monthly", Dimension::User, Unit::Credits, "month", 10_000_000),
        limit("burst", Dimension::Session, Unit::Tokens, "5h", 100),
    ]);
    let now = at("2025-07-27T00:11:26.479685Z");
    let spend = Spend { credits: Credits::whole(4), tokens: 60, session: Some("s1"), ..request() };
    assert_eq!(stage.spend(&spend, now), Ok(()));
    let denial = stage.spend(&spend, now).expect_err("more than is left");
    assert_eq!(
        denial,
        Denial {
            limit: "burst".to_owned(),
            per: Dimension::Session,
            value: Some("s1".to_owned()),
            unit: Unit::Tokens,
            window: "5h".parse().expect("a window"),
            amount: 100,
            used: 60,
            held: 0,
            remaining: 40,
            requested: 60,
            // The bucket from 00:10 to 00:15 leaves five hours after its end.
            resets_at: Some(at("2025-07-27T05:15:00Z")),
        }
    );
    assert!(denial.retryable());
    assert_eq!(denial.to_string(), "Spending limit reached: burst. Remaining: 40 tokens, Required: 60");
    // Another session has a count of its own, and the month counts both.
    assert_eq!(stage.spend(&Spend { session: Some("s2"), ..spend }, now), Ok(()));
    let denial = stage.spend(&Spend { session: Some("s3"), ..spend }, now).expect_err("the month is full");
    assert_eq!((denial.limit.as_str(), denial.remaining, denial.value), ("monthly", 2_000_000, None));
    assert_eq!(denial.resets_at, Some(at("2025-08-01T00:00:00Z")));
    let text = "Spending limit reached: monthly. Remaining: 2 credits, Required: 4";
    assert_eq!(stage.check(&Spend { session: None, ..spend }, now).expect_err("full").to_string(), text);
}

#[test]
fn all_limits_count_or_none_does() {
    let mut stage = Stage::with(vec![
        limit("a", Dimension::User, Unit::Requests, "5h", 10),
        limit("b", Dimension::User, Unit::Requests, "week", 3),
        limit("c", Dimension::User, Unit::Requests, "month", 20),
    ]);
    let now = at("2025-07-27T12:00:00Z");
    for _ in 0..3 {
        assert_eq!(stage.spend(&request(), now), Ok(()));
    }
    let before = stage.counters.clone();
    assert_eq!(stage.spend(&request(), now).expect_err("the week is full").limit, "b");
    assert_eq!(stage.counters, before);
    // On Monday the week begins anew; the month does not.
    let monday = at("2025-07-28T00:00:00Z");
    assert_eq!(stage.spend(&request(), monday), Ok(()));
}

#[test]
fn the_limit_that_stands_in_the_way_longest_is_named() {
    let now = at("2025-07-27T12:00:00Z");
    let mut stage = Stage::with(vec![
        limit("hour", Dimension::User, Unit::Requests, "hour", 1),
        limit("month", Dimension::User, Unit::Requests, "month", 1),
        limit("day", Dimension::User, Unit::Requests, "day", 1),
        limit("size", Dimension::User, Unit::Tokens, "1m", 5),
    ]);
    assert_eq!(stage.spend(&request(), now), Ok(()));
    assert_eq!(stage.spend(&request(), now).expect_err("full").limit, "month");
    let large = Spend { tokens: 6, ..request() };
    let denial = stage.spend(&large, now).expect_err("it never fits");
    assert_eq!((denial.limit.as_str(), denial.resets_at, denial.retryable()), ("size", None, false));
}

#[test]
fn a_limit_of_zero_denies_all_that_it_is_about() {
    let now = at("2025-07-27T12:00:00Z");
    let mut none = limit("none", Dimension::Model, Unit::Credits, "month", 0);
    none.value = Some("gpt-4".to_owned());
    let mut stage = Stage::with(vec![none]);
    let free = Spend { model: Some("gpt-4"), ..request() };
    let denial = stage.spend(&free, now).expect_err("nothing passes");
    assert_eq!((denial.requested, denial.resets_at, denial.retryable()), (0, None, false));
    assert_eq!(
        stage.spend(&Spend { model: Some("gpt-4o"), credits: Credits::MAX, ..request() }, now),
        Ok(())
    );
    assert_eq!(stage.spend(&request(), now), Ok(()));
}

#[test]
fn what_spends_nothing_of_a_full_unit_passes() {
    let now = at("2025-07-27T12:00:00Z");
    let mut stage = Stage::with(vec![limit("usd", Dimension::User, Unit::Usd, "day", 5)]);
    assert_eq!(stage.spend(&Spend { cost_usd: 5, ..request() }, now), Ok(()));
    assert_eq!(stage.spend(&request(), now), Ok(()));
    assert!(stage.spend(&Spend { cost_usd: 1, ..request() }, now).is_err());
    // Lowered, the limit is passed already, and that is no reason to refuse what is free.
    stage.limits[0].amount = 1;
    assert_eq!(stage.spend(&request(), now), Ok(()));
    assert_eq!(stage.spend(&Spend { cost_usd: 1, ..request() }, now).expect_err("passed").used, 5);
}

#[test]
fn each_tag_counts_once_and_a_named_one_alone() {
    let now = at("2025-07-27T12:00:00Z");
    let mut blue = limit("blue", Dimension::Tag, Unit::Requests, "day", 2);
    blue.value = Some("blue".to_owned());
    let mut stage = Stage::with(vec![limit("any", Dimension::Tag, Unit::Requests, "day", 3), blue]);
    let tags = ["red", "blue", "red"].map(str::to_owned);
    let both = Spend { tags: &tags, ..request() };
    assert_eq!(counters_of(ALICE, &stage.limits, &both, now).len(), 3);
    assert_eq!(stage.spend(&both, now), Ok(()));
    assert_eq!(stage.spend(&both, now), Ok(()));
    let denial = stage.spend(&both, now).expect_err("blue is full");
    assert_eq!((denial.limit.as_str(), denial.value.as_deref()), ("blue", Some("blue")));
    let red = Spend { tags: &tags[..1], ..request() };
    assert_eq!(stage.spend(&red, now), Ok(()));
    assert_eq!(stage.spend(&red, now).expect_err("red is full").value.as_deref(), Some("red"));
    assert_eq!(stage.spend(&request(), now), Ok(()), "no tags, no limit");
}

#[test]
fn what_holds_set_aside_is_not_there_to_spend() {
    let now = at("2025-07-27T12:00:00Z");
    let mut stage = Stage::with(vec![
        limit("credits", Dimension::User, Unit::Credits, "day", 10),
        limit("requests", Dimension::User, Unit::Requests, "day", 1),
    ]);
    stage.held = 8;
    let spend = |micro| Spend { credits: Credits::from_micro(micro), ..Spend::default() };
    let denial = stage.check(&spend(3), now).expect_err("8 of 10 are held");
    assert_eq!((denial.held, denial.used, denial.remaining), (8, 0, 2));
    assert_eq!((denial.resets_at, denial.retryable()), (None, true), "the clock does not end holds");
    assert!(stage.check(&spend(2), now).is_ok());
    assert!(stage.check(&request(), now).is_ok(), "holds set credits aside, not requests");
    stage.held = i64::MAX;
    assert_eq!(stage.check(&spend(1), now).expect_err("all is held").remaining, 0);
}

#[test]
fn a_definition_that_changes_counts_anew_and_an_amount_does_not() {
    let first = limit("a.b", Dimension::Session, Unit::Tokens, "60m", 5);
    let same = [
        Limit { amount: 7, ..first.clone() },
        Limit { window: "1h".parse().expect("a window"), ..first.clone() },
    ];
    let other = [
        Limit { id: "a".to_owned(), ..first.clone() },
        Limit { unit: Unit::Credits, ..first.clone() },
        Limit { per: Dimension::Model, ..first.clone() },
        Limit { window: Window::Hour, ..first.clone() },
        Limit { value: Some("s1".to_owned()), ..first.clone() },
    ];
    assert!(same.iter().all(|limit| limit.key() == first.key()));
    assert!(other.iter().all(|limit| limit.key() != first.key()));
    for limit in other.iter().chain(&same) {
        let found = Limit::window_of_key(&limit.key()).expect("a window");
        assert_eq!(found.code(), limit.window.code());
    }
    assert_eq!(Limit::window_of_key("user.each"), None);
}

#[test]
fn limits_are_kept_as_text_and_read_back() {
    let mut limits = vec![
        limit("monthly", Dimension::User, Unit::Credits, "month", 500_000_000),
        limit("burst \"é\"", Dimension::Session, Unit::Tokens, "300m", i64::MAX),
    ];
    limits[1].value = Some("s\n1".to_owned());
    let text = model::to_text(&limits).expect("a text");
    let first = r#"[{"id":"monthly","per":"user","unit":"credits","window":"month","amount":500000000},"#;
    assert!(text.starts_with(first), "{text}");
    assert_eq!(model::from_text(&text).as_deref(), Ok(limits.as_slice()));
    assert_eq!(model::from_text("[]").as_deref(), Ok([].as_slice()));
    assert!(model::from_text("[{}]").expect_err("no limits").contains("spending_limits"));
}

#[test]
fn the_largest_amounts_do_not_overflow() {
    let now = at("9999-12-31T23:59:59.999999Z");
    let mut stage = Stage::with(vec![
        limit("most", Dimension::User, Unit::Credits, "366d", USED_MAX),
        limit("month", Dimension::User, Unit::Credits, "month", USED_MAX),
    ]);
    let all = Spend { credits: Credits::MAX, ..request() };
    assert_eq!(stage.spend(&all, now), Ok(()));
    // What happened all the same is counted: a bucket stays at its most, and denies.
    for _ in 0..3 {
        let moves = moves(&stage.limits, ALICE, &all, &stage.counters, now);
        apply(&mut stage.counters, &moves);
    }
    let denial = stage.spend(&all, now).expect_err("full");
    assert_eq!((denial.remaining, denial.resets_at), (0, Some(Timestamp::MAX)));
    let mut many = Moves::default();
    many.add(&moves(&stage.limits, ALICE, &all, &HashMap::new(), now));
    many.add(&moves(&stage.limits, ALICE, &all, &HashMap::new(), now));
    assert!(many.iter().all(|(_, _, moved)| moved.delta == USED_MAX));
    let rolling = limit("r", Dimension::User, Unit::Credits, "1m", USED_MAX);
    let full = Used((0..60).map(|second| (now.micros() - second * 1_000_000, USED_MAX)).collect());
    assert_eq!(Standing::of(&rolling, &full, i64::MAX, now).used, 60 * i128::from(USED_MAX));
    assert_eq!(Spend { credits: Credits::from_micro(-5), ..request() }.of(Unit::Credits), 0);
}

/// Something that was spent, for the model that remembers everything.
#[derive(Debug, Clone)]
struct Event {
    at: Timestamp,
    credits: i64,
    tokens: i64,
    cost: i64,
    session: Option<usize>,
    model: Option<usize>,
    tags: Vec<usize>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Event {
    fn tags(&self) -> Vec<String> {
        self.tags.iter().map(|tag| NAMES[*tag].to_owned()).collect()
    }

    fn spend<'a>(&self, tags: &'a [String]) -> Spend<'a> {
        Spend {
            credits: Credits::from_micro(self.credits),
            cost_usd: self.cost,
            tokens: self.tokens,
            requests: 1,
            key: None,
            session: self.session.map(|name| NAMES[name]),
            model: self.model.map(|name| NAMES[name]),
            tags,
        }
    }

    /// What it spent under a limit and a value.
    fn under(&self, limit: &Limit, value: &str) -> i64 {
        let is = |name: Option<usize>| name.is_some_and(|name| NAMES[name] == value);
        let counts = match limit.per {
            Dimension::User => true,
            Dimension::Key => false,
            Dimension::Session => is(self.session),
            Dimension::Model => is(self.model),
            Dimension::Tag => self.tags.iter().any(|tag| NAMES[*tag] == value),
        };
        let amount = match limit.unit {
            Unit::Credits => self.credits,
            Unit::Usd => self.cost,
            Unit::Tokens => self.tokens,
            Unit::Requests => 1,
        };
        if counts { amount } else { 0 }
    }
}

/// What a list of events says was spent: surely, and at most.
fn naive(events: &[Event], limit: &Limit, value: &str, now: Timestamp) -> (i64, i64) {
    let sum = |counts: &dyn Fn(Timestamp) -> bool| -> i64 {
        events.iter().filter(|event| counts(event.at)).map(|event| event.under(limit, value)).sum()
    };
    let date = |at: Timestamp| DateTime::<Utc>::from_timestamp_micros(at.micros()).expect("a date");
    let today = date(now);
    let same = |name: fn(DateTime<Utc>) -> (i32, u32, u32)| {
        let spent = sum(&|at| name(date(at)) == name(today));
        (spent, spent)
    };
    match limit.window.to_string().as_str() {
        "hour" => same(|d| (d.year(), d.ordinal(), d.hour())),
        "day" => same(|d| (d.year(), d.ordinal(), 0)),
        "week" => same(|d| (d.iso_week().year(), d.iso_week().week(), 0)),
        "month" => same(|d| (d.year(), d.month(), 0)),
        rolling => {
            let (count, unit) = rolling.split_at(rolling.len() - 1);
            let minutes = count.parse::<i64>().expect("a number")
                * match unit {
                    "m" => 1,
                    "h" => 60,
                    _ => 1440,
                };
            let within = |length: i64| sum(&|at| at.micros() + length > now.micros());
            (within(minutes * MINUTE), within(minutes * MINUTE + minutes * MINUTE / 60))
        }
    }
}

fn limits() -> impl Strategy<Value = Vec<Limit>> {
    let one = (0..4usize, 0..4usize, 0..9usize, 0..40i64, any::<bool>());
    prop::collection::vec(one, 1..5).prop_map(|all| {
        let made = all.into_iter().enumerate().map(|(place, (per, unit, window, amount, only))| {
            let per = [Dimension::User, Dimension::Session, Dimension::Model, Dimension::Tag][per];
            let unit = [Unit::Credits, Unit::Usd, Unit::Tokens, Unit::Requests][unit];
            let window = ["hour", "day", "week", "month", "1m", "30m", "5h", "7d", "366d"][window];
            let value = (only && per != Dimension::User).then(|| "a".to_owned());
            Limit { value, ..limit(&place.to_string(), per, unit, window, amount) }
        });
        made.collect()
    })
}

/// Spends that follow each other by microseconds up to weeks, beginning near a leap day.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let name = || prop::option::of(0..3usize);
    let gap = (0..6usize, 0..1000i64)
        .prop_map(|(scale, n)| n * [1, 1_000, 50_000, MINUTE / 50, 10 * MINUTE, 60 * MINUTE][scale]);
    let one = (gap, 0..12i64, 0..12i64, 0..12i64, name(), name(), prop::collection::vec(0..3usize, 0..3));
    prop::collection::vec(one, 1..60).prop_map(|all| {
        let mut now = at("2024-02-28T22:00:00Z").micros();
        let made = all.into_iter().map(|(gap, credits, tokens, cost, session, model, tags)| {
            now += gap;
            Event { at: Timestamp::from_micros(now), credits, tokens, cost, session, model, tags }
        });
        made.collect()
    })
}

/// What the tables hold: counters that forget what [`Move::ended`] says, loaded from [`Wanted::since`].
#[derive(Default)]
struct Tables(HashMap<CounterKey, Used>);

impl Tables {
    fn load(&self, wanted: &[Wanted]) -> HashMap<CounterKey, Used> {
        let loaded = wanted.iter().filter_map(|Wanted { key, since }| {
            let part = self.0.get(key)?.0.range(since..).map(|(bucket, used)| (*bucket, *used)).collect();
            Some((key.clone(), Used(part)))
        });
        loaded.collect()
    }

    fn write(&mut self, moves: &Moves) {
        for (key, bucket, moved) in moves.iter() {
            self.0.entry(key.clone()).or_default().add(bucket, moved.delta);
        }
        for (key, ended) in moves.ended() {
            self.0.get_mut(key).expect("a counter").0.retain(|bucket, _| *bucket >= ended);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn limits_are_never_passed_and_hardly_ever_refuse_too_much(limits in limits(), events in events()) {
        let mut tables = Tables::default();
        let mut passed: Vec<Event> = Vec::new();
        for event in events {
            let (tags, now) = (event.tags(), event.at);
            let spend = event.spend(&tags);
            let counters = tables.load(&counters_of(ALICE, &limits, &spend, now));
            prop_assert!(counters.values().all(|used| used.0.len() <= 62 + 300), "old buckets stay");
            match check(&limits, ALICE, &spend, &|_, _| 0, &counters, now) {
                Ok(moves) => {
                    for (limit, value) in applying(&limits, &spend) {
                        let (surely, _) = naive(&passed, limit, value, now);
                        let fits = surely + event.under(limit, value) <= limit.amount;
                        prop_assert!(fits || event.under(limit, value) == 0, "{limit:?} {value} {now}");
                    }
                    let mut batch = Moves::default();
                    batch.add(&moves);
                    tables.write(&batch);
                    passed.push(event.clone());
                }
                Err(denial) => {
                    let limit = limits.iter().find(|limit| limit.id == denial.limit).expect("a limit");
                    let value = denial.value.clone().unwrap_or_default();
                    let (surely, at_most) = naive(&passed, limit, &value, now);
                    prop_assert!(at_most + denial.requested > limit.amount || limit.amount == 0);
                    prop_assert!((i128::from(surely)..=i128::from(at_most)).contains(&denial.used));
                    prop_assert_eq!(denial.requested, event.under(limit, &value));
                    // It fits at that instant, and not a microsecond before.
                    let alone = std::slice::from_ref(limit);
                    let then = |now| check(alone, ALICE, &spend, &|_, _| 0, &counters, now);
                    prop_assert_eq!(denial.resets_at.is_some(), denial.retryable());
                    if let Some(resets_at) = denial.resets_at {
                        prop_assert!(resets_at > now && then(resets_at).is_ok());
                        let before = Timestamp::from_micros(resets_at.micros() - 1);
                        prop_assert!(then(before).is_err());
                    }
                }
            }
        }
    }

    #[test]
    fn a_window_forgets_what_has_left_it_and_nothing_else(limits in limits(), events in events(), later in 0..900i64) {
        // Everything is spent, whether it fits or not; what is then counted is what a list says.
        let mut tables = Tables::default();
        for event in &events {
            let tags = event.tags();
            let spend = event.spend(&tags);
            let counters = tables.load(&counters_of(ALICE, &limits, &spend, event.at));
            let mut batch = Moves::default();
            batch.add(&moves(&limits, ALICE, &spend, &counters, event.at));
            tables.write(&batch);
        }
        let last = events.last().expect("an event").at;
        let now = Timestamp::from_micros(last.micros() + later * later * 10_000_000);
        for limit in &limits {
            for value in NAMES.iter().copied().filter(|_| limit.per != Dimension::User).chain([""]) {
                if limit.value.as_deref().is_some_and(|only| only != value) {
                    continue;
                }
                let key = CounterKey { user: ALICE, limit: limit.key(), value: value.to_owned() };
                let used = tables.0.get(&key).cloned().unwrap_or_default();
                let standing = Standing::of(limit, &used, 0, now);
                let (surely, at_most) = naive(&events, limit, value, now);
                prop_assert!((i128::from(surely)..=i128::from(at_most)).contains(&standing.used));
                let left = (i128::from(limit.amount) - standing.used).max(0);
                prop_assert_eq!(i128::from(standing.remaining), left);
                prop_assert!(standing.resets_at.is_none_or(|resets_at| resets_at > now));
            }
        }
    }
}

#[test]
fn a_hundred_limits_are_decided_together() {
    let windows = ["hour", "day", "week", "month", "5h"];
    let all = (0..LIMITS_MAX)
        .map(|place| limit(&place.to_string(), Dimension::User, Unit::Requests, windows[place % 5], 1));
    let mut stage = Stage::with(all.collect());
    let now = at("2025-07-27T12:00:00Z");
    assert_eq!(stage.spend(&request(), now), Ok(()));
    assert_eq!(stage.counters.len(), LIMITS_MAX);
    assert_eq!(stage.spend(&request(), now).expect_err("full").limit, "3", "the first of the months");
}

#[test]
fn a_clock_that_lags_a_little_finds_its_buckets_still_there() {
    let hourly = limit("hour", Dimension::User, Unit::Requests, "hour", 5);
    let mut tables = Tables::default();
    let before = at("2025-07-27T12:59:58Z");
    let after = Timestamp::from_micros(before.micros() + SKEW_MICROS / 2);
    let limits = [hourly];
    for now in [before, after] {
        let counters = tables.load(&counters_of(ALICE, &limits, &request(), now));
        let mut batch = Moves::default();
        batch.add(&check(&limits, ALICE, &request(), &|_, _| 0, &counters, now).expect("it fits"));
        tables.write(&batch);
    }
    let counters = tables.load(&counters_of(ALICE, &limits, &request(), before));
    assert_eq!(counters.values().next().map(|used| used.0.len()), Some(2));
}

use super::*;
use crate::webhooks::model::StoredEvent;
use proptest::prelude::*;

fn numbered(position: i64, user: Option<i64>) -> Numbered {
    let event = StoredEvent {
        id: position,
        position: Some(position),
        auth0_id: None,
        event_type: "credit.consumed".to_owned(),
        body: "{}".to_owned(),
        at: Timestamp::from_micros(position),
    };
    Numbered { position, user, event }
}

fn attempt() -> Attempt {
    Attempt { at: Timestamp::default(), status_code: None, duration_ms: 0, error: None, excerpt: None }
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

#[test]
fn of_a_user_one_goes_at_a_time_and_of_others_beside_it() {
    let mut window = Window::new(0, 1 << 20);
    window
        .offer(vec![numbered(1, Some(7)), numbered(2, Some(7)), numbered(3, Some(8)), numbered(4, None)], 9);
    let first: Vec<Job> = std::iter::from_fn(|| window.next(at(0), false)).collect();
    assert_eq!(first.iter().map(|job| job.event).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(window.cursor(), 0);
    window.done(&first[0], Outcome::Delivered(attempt()));
    assert_eq!(window.cursor(), 1, "the first one is over");
    let second = window.next(at(0), false).expect("the user's next one");
    assert_eq!(second.event, 2);
    for job in [&second, &first[1], &first[2]] {
        window.done(job, Outcome::Delivered(attempt()));
    }
    let (rows, cursor) = window.take();
    assert_eq!((rows.len(), cursor), (4, 9), "what is none of the endpoint's is passed");
    assert_eq!(window.next(at(0), false), None);
}

#[test]
fn what_is_pending_holds_up_its_user_alone_until_its_time() {
    let mut window = Window::new(0, 1 << 20);
    window.offer(vec![numbered(1, Some(7)), numbered(2, Some(7)), numbered(3, Some(8))], 3);
    let job = window.next(at(0), false).expect("the first one");
    window.done(&job, Outcome::Retry(attempt(), at(100)));
    let other = window.next(at(99), false).expect("the other user's");
    assert_eq!(other.event, 3);
    assert_eq!(window.next(at(99), false), None);
    let (rows, cursor) = window.take();
    let told: Vec<_> = rows.iter().map(|row| (row.event, row.attempts, row.next)).collect();
    assert_eq!((told, cursor), (vec![(1, 1, Some(at(100))), (2, 0, None)], 2));
    let again = window.next(at(100), false).expect("its time has come");
    assert_eq!((again.event, again.attempts), (1, 1));
    window.done(&again, Outcome::Delivered(attempt()));
    assert_eq!(window.next(at(100), false).map(|job| job.event), Some(2));
}

#[test]
fn an_endpoint_that_fails_is_probed_by_one_at_a_time_and_its_success_wakes_all() {
    let mut window = Window::new(0, 1 << 20);
    window.offer((1..=3).map(|n| numbered(n, Some(n))).collect(), 3);
    for _ in 0..2 {
        let job = window.next(at(0), false).expect("a job");
        window.done(&job, Outcome::Retry(attempt(), at(1_000)));
    }
    assert_eq!(window.next(at(0), true), None, "nothing new while something is pending");
    let probe = window.next(at(1_000), true).expect("a probe");
    assert_eq!(window.next(at(1_000), true), None, "one at a time");
    window.done(&probe, Outcome::Retry(attempt(), at(9_000)));
    window.wake_all(at(2_000));
    assert_eq!(window.next_due(), Some(at(1_000)));
    let woken: Vec<i64> = std::iter::from_fn(|| window.next(at(2_000), false)).map(|job| job.event).collect();
    assert_eq!(woken.len(), 3);
}

#[test]
fn what_is_asked_for_again_goes_once_also_where_it_was_read_ahead() {
    let mut window = Window::new(0, 1 << 20);
    window.offer(vec![numbered(1, Some(7)), numbered(2, Some(7)), numbered(3, Some(8))], 3);
    let row = Pending { event: 1, user: Some(7), attempts: 0, next: None };
    window.replace([(Key::User(7), vec![row], 0)]);
    let mut sent = Vec::new();
    while let Some(job) = window.next(at(0), false) {
        sent.push(job.event);
        window.done(&job, Outcome::Delivered(attempt()));
    }
    sent.sort_unstable();
    assert_eq!(sent, [1, 2, 3]);
    assert_eq!(window.cursor(), 3);
}

#[test]
fn what_is_beyond_memory_is_asked_for_when_its_turn_comes() {
    let mut window = Window::new(0, 1 << 20);
    let many = i64::try_from(KEPT).expect("small") + 10;
    window.offer((1..=many + 1).map(|n| numbered(n, Some(7))).collect(), many + 1);
    let job = window.next(at(0), false).expect("the first one");
    window.done(&job, Outcome::Retry(attempt(), at(1)));
    assert_eq!(window.pending(), usize::try_from(many).expect("small") + 1);
    let mut sent = Vec::new();
    while let Some(job) = window.next(at(1), false) {
        sent.push(job.event);
        window.done(&job, Outcome::Delivered(attempt()));
        for key in window.hungry() {
            let next = *sent.last().expect("one") + 1;
            let rows = (next..=many + 1).take(KEPT);
            let rows = rows.map(|event| Pending { event, user: Some(7), attempts: 0, next: None });
            window.refill(key, rows.collect());
        }
    }
    assert_eq!(sent, (1..=many + 1).collect::<Vec<_>>());
    assert_eq!(window.pending(), 0);
}

#[test]
fn so_many_bytes_are_read_ahead_and_the_rest_is_left_to_the_next_read() {
    let mut window = Window::new(0, 10);
    let large = |position| {
        let mut large = numbered(position, Some(position));
        large.event.body = "x".repeat(8);
        large
    };
    window.offer(vec![large(1), large(2), large(5)], 9);
    assert_eq!(window.read_to(), 4, "two were taken, and what lies before the third");
    assert!(!window.has_room());
}

/// What is in the database, as far as a sender sees it.
#[derive(Debug, Default)]
struct Stored {
    events: Vec<(i64, Option<i64>)>,
    rows: BTreeMap<i64, Row>,
    cursor: i64,
}

impl Stored {
    fn write(&mut self, (rows, cursor): (Vec<Row>, i64)) {
        for row in rows {
            self.rows.insert(row.event, row);
        }
        assert!(cursor >= self.cursor, "the cursor never goes back");
        self.cursor = cursor;
        for (event, _) in self.events.iter().take_while(|(event, _)| *event <= cursor) {
            assert!(self.rows.contains_key(event), "the cursor passed {event}, which has no row");
        }
    }

    fn pending(&self) -> Vec<(Key, Vec<Pending>, usize)> {
        let mut all: BTreeMap<Key, (Vec<Pending>, usize)> = BTreeMap::new();
        for row in self.rows.values().filter(|row| row.status == Status::Pending) {
            let (kept, beyond) = all.entry(Key::of(row.user, row.event)).or_default();
            let Row { event, user, attempts, next, .. } = *row;
            if kept.len() < KEPT { kept.push(Pending { event, user, attempts, next }) } else { *beyond += 1 }
        }
        all.into_iter().map(|(key, (kept, beyond))| (key, kept, beyond)).collect()
    }

    fn opened(&self) -> Window {
        let mut window = Window::new(self.cursor, 1 << 20);
        window.replace(self.pending());
        window
    }

    fn read(&self, window: &mut Window, limit: usize) {
        let after = window.read_to();
        let page: Vec<i64> =
            self.events.iter().map(|(event, _)| *event).filter(|event| *event > after).take(limit).collect();
        let Some(to) = page.last() else { return };
        let wanted =
            self.events.iter().filter(|(event, _)| page.contains(event) && !self.rows.contains_key(event));
        window.offer(wanted.map(|(event, user)| numbered(*event, *user)).collect(), *to);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Happen(Option<i64>),
    Read(usize),
    Send,
    /// The outcome of one that is under way: delivered, to be tried again, or failed for good.
    End(usize, u8),
    Write,
    Advance(i64),
    Crash,
    Reload,
    Again(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![Just(None), (1..4_i64).prop_map(Some)].prop_map(Step::Happen),
        3 => (1..5_usize).prop_map(Step::Read),
        6 => Just(Step::Send),
        6 => (any::<usize>(), 0..4_u8).prop_map(|(which, how)| Step::End(which, how)),
        3 => Just(Step::Write),
        2 => (1..200_i64).prop_map(Step::Advance),
        1 => Just(Step::Crash),
        1 => Just(Step::Reload),
        1 => any::<usize>().prop_map(Step::Again),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_and_of_a_user_nothing_overtakes(steps in prop::collection::vec(step(), 1..160)) {
        let mut stored = Stored::default();
        let mut window = stored.opened();
        let mut jobs: Vec<Job> = Vec::new();
        let mut now = 0;
        let mut again: HashSet<i64> = HashSet::new();
        let check = |stored: &Stored, jobs: &[Job], job: &Job, window: &Window, again: &HashSet<i64>| {
            prop_assert!(jobs.iter().all(|other| other.key != job.key), "two of one user are under way");
            // Every earlier event of the user is over, in the database or in what is to be written.
            for (event, user) in &stored.events {
                if Key::of(*user, *event) == job.key && *event < job.event && !again.contains(event) {
                    let row = window.rows.get(event).or_else(|| stored.rows.get(event));
                    let over = row.is_some_and(|row| row.status != Status::Pending);
                    prop_assert!(over, "{} overtakes {event}", job.event);
                }
            }
            Ok(())
        };
        for step in steps {
            match step {
                Step::Happen(user) => {
                    let event = i64::try_from(stored.events.len()).expect("few") + 1;
                    stored.events.push((event, user));
                }
                Step::Read(limit) => stored.read(&mut window, limit),
                Step::Send => {
                    if let Some(job) = window.next(at(now), false) {
                        check(&stored, &jobs, &job, &window, &again)?;
                        jobs.push(job);
                    }
                }
                Step::End(which, how) if !jobs.is_empty() => {
                    let job = jobs.swap_remove(which % jobs.len());
                    again.remove(&job.event);
                    let outcome = match how {
                        0 => Outcome::Retry(attempt(), at(now + 100)),
                        1 => Outcome::Failed(attempt()),
                        _ => Outcome::Delivered(attempt()),
                    };
                    window.done(&job, outcome);
                }
                Step::Write => stored.write(window.take()),
                Step::Advance(by) => now += by,
                Step::Crash => {
                    jobs.clear();
                    window = stored.opened();
                }
                Step::Reload => {
                    stored.write(window.take());
                    window.replace(stored.pending());
                }
                Step::Again(which) if !stored.rows.is_empty() => {
                    stored.write(window.take());
                    let event = *stored.rows.keys().nth(which % stored.rows.len()).expect("one");
                    if jobs.iter().all(|job| job.event != event) {
                        let row = stored.rows.get_mut(&event).expect("one");
                        row.status = Status::Pending;
                        row.next = None;
                        again.insert(event);
                        window.replace(stored.pending());
                    }
                }
                _ => {}
            }
        }
        // In the end all is delivered.
        for _ in 0..10_000 {
            stored.read(&mut window, 100);
            while let Some(job) = window.next(at(now), false) {
                check(&stored, &jobs, &job, &window, &again)?;
                jobs.push(job);
            }
            for job in jobs.drain(..) {
                again.remove(&job.event);
                window.done(&job, Outcome::Delivered(attempt()));
            }
            stored.write(window.take());
            let over = stored.rows.len() == stored.events.len()
                && stored.rows.values().all(|row| row.status != Status::Pending);
            if over {
                break;
            }
            now += 50;
        }
        prop_assert_eq!(stored.rows.len(), stored.events.len());
        prop_assert!(stored.rows.values().all(|row| row.status != Status::Pending));
        prop_assert_eq!(stored.cursor, i64::try_from(stored.events.len()).expect("few"));
        prop_assert_eq!((window.under_way(), window.pending()), (0, 0));
    }
}

//! Real input through the service: 19 366 calls as usage of 1000 users, through the batch route (every
//! batch sent twice) and as single records with consumes; totals computed here with exact integers
//! stand beside the service's answers and must agree to the last digit.

mod totals;
mod trace;

use crate::api::{self, Api};
use crate::engine::{Bed, EngineSet};
use crate::server::Server;
use crate::users::{self, User};
use crate::{Fallible, exact, wall};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use totals::Comparison;
use trace::Call;

/// Every user starts with the welcome grant and one recharge, in micro-credits.
const WELCOME: i128 = 1_000_000_000;
const RECHARGE: &str = "250.5";

/// How to replay.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Which engines to run on.
    #[arg(long, value_enum, default_value = "both")]
    engine: EngineSet,
    /// How many users the calls belong to.
    #[arg(long, default_value_t = 1000)]
    users: usize,
    /// How many records a batch has.
    #[arg(long, default_value_t = 1000)]
    batch_records: usize,
    /// The service's binary.
    #[arg(long, default_value = "target/release/user-service")]
    program: PathBuf,
}

/// A usage record on the wire; amounts are literals, so that no binary float ever exists.
#[derive(Serialize)]
struct Record<'a> {
    user_id: &'a str,
    event_id: String,
    created_at: String,
    event_type: &'static str,
    model_name: &'static str,
    provider: &'static str,
    calculation_method: &'static str,
    prompt_tokens: i64,
    completion_tokens: i64,
    credits_charged: Box<RawValue>,
    cost_usd: Box<RawValue>,
}

#[derive(Deserialize)]
struct BatchAnswer {
    recorded: usize,
    duplicates: usize,
    failed: usize,
}

#[derive(Deserialize)]
struct Recorded {
    id: Box<RawValue>,
}

/// Replays on each engine; answers whether everything agreed.
pub async fn run(options: Options) -> Fallible<bool> {
    let program = options.program.canonicalize();
    let program = program.map_err(|error| format!("{}: {error}", options.program.display()))?;
    let calls = trace::read(options.users)?;
    let mut differences = 0;
    for &engine in options.engine.engines() {
        let bed = Bed::prepare(engine).await?;
        let mut server = Server::start(program.clone(), bed.storage("replay").await?, &[]).await?;
        let replay = Replay { api: Api::new(&server)?, calls: &calls, options: &options };
        let comparison = replay.batches(&server.jwt_secret).await?;
        comparison.print(&format!("{}, through the batch route, every batch sent twice", bed.version()))?;
        differences += comparison.differences;
        let comparison = replay.singles(&server.jwt_secret).await?;
        comparison.print(&format!("{}, as single records with consumes, 32 callers", bed.version()))?;
        differences += comparison.differences;
        let took = server.stop()?.verify_ledger().await?;
        eprintln!("{}: verify-ledger agrees ({:.1} s)", bed.version(), took.as_secs_f64());
    }
    if differences > 0 {
        return Err(format!("{differences} differences").into());
    }
    eprintln!("no differences");
    Ok(true)
}

struct Replay<'a> {
    api: Api,
    calls: &'a [Call],
    options: &'a Options,
}

impl Replay<'_> {
    async fn batches(&self, secret: &str) -> Fallible<Comparison> {
        let users = users::make(&self.api, "replay-batch", self.options.users, secret, RECHARGE).await?;
        let (mut first, mut again) = ([0; 3], [0; 3]);
        for calls in self.calls.chunks(self.options.batch_records) {
            let records: Vec<Record> =
                calls.iter().map(|call| record(call, &users)).collect::<Fallible<_>>()?;
            let body = format!("{{\"records\":{}}}", serde_json::to_string(&records)?);
            for counts in [&mut first, &mut again] {
                let answer = self.api.post("/api/v1/usage/batch", body.clone()).await?;
                let answer: BatchAnswer = api::data(&answer)?;
                counts[0] += answer.recorded;
                counts[1] += answer.duplicates;
                counts[2] += answer.failed;
            }
        }
        let text = |[recorded, duplicates, failed]: [usize; 3]| format!("{recorded}/{duplicates}/{failed}");
        let all = self.calls.len();
        let mut comparison = Comparison::default();
        comparison.line("first sending: recorded/duplicates/failed", &text([all, 0, 0]), &text(first));
        comparison.line("second sending: recorded/duplicates/failed", &text([0, all, 0]), &text(again));
        self.compare(&mut comparison, &users, false).await?;
        Ok(comparison)
    }

    async fn singles(&self, secret: &str) -> Fallible<Comparison> {
        let users = users::make(&self.api, "replay-single", self.options.users, secret, RECHARGE).await?;
        let done = AtomicUsize::new(0);
        let one = |call| {
            let (users, done) = (&users, &done);
            async move {
                self.single(call, users).await?;
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        };
        users::concurrently(self.calls, one).await?;
        let mut comparison = Comparison::default();
        let (calls, done) = (self.calls.len().to_string(), done.into_inner().to_string());
        comparison.line("calls recorded and paid", &calls, &done);
        self.compare(&mut comparison, &users, true).await?;
        Ok(comparison)
    }

    /// One call as its own product would report it: record, then consume, both with the user's token.
    async fn single(&self, call: &Call, users: &[User]) -> Fallible<()> {
        let user = &users[call.user];
        let body = serde_json::to_string(&record(call, users)?)?;
        let recorded: Recorded = api::data(&self.api.post_as(user, &user.path("/usage"), body).await?)?;
        let body = format!(
            r#"{{"amount":{},"description":"call {}","usage_record_id":{}}}"#,
            exact::literal(call.credits(), 6),
            call.number,
            recorded.id.get()
        );
        self.api.post_as(user, &user.path("/credits/consume"), body).await.map(drop)
    }

    /// Compares statistics over all time and over a ragged range, and the balances.
    async fn compare(&self, comparison: &mut Comparison, users: &[User], paid: bool) -> Fallible<()> {
        let count = users.len();
        let ours = totals::of(self.calls, count, |_| true);
        let service = users::concurrently(users, |user| self.api.stats(user, "")).await?;
        comparison.stats("all", &ours, &service);

        // Both ends are instants of calls, and inclusive: one microsecond off would show.
        let (start, end) = (self.calls[self.calls.len() / 5].at, self.calls[self.calls.len() * 4 / 5].at);
        let query = format!("?start_date={}&end_date={}", wall::rfc3339(start), wall::rfc3339(end));
        let ours_within = totals::of(self.calls, count, |call| start <= call.at && call.at <= end);
        let service = users::concurrently(users, |user| self.api.stats(user, &query)).await?;
        comparison.stats("range", &ours_within, &service);

        let initial = WELCOME + exact::parse(RECHARGE, 6)?;
        let spent = |stats: &api::Stats| if paid { stats.credits } else { 0 };
        let left: Vec<i128> = ours.iter().map(|stats| initial - spent(stats)).collect();
        comparison.balances("ledger", &left, &self.api.balances(users).await?);
        Ok(())
    }
}

fn record<'a>(call: &Call, users: &'a [User]) -> Fallible<Record<'a>> {
    Ok(Record {
        user_id: &users[call.user].id,
        event_id: format!("azure-conv-{}", call.number),
        created_at: wall::rfc3339(call.at),
        event_type: call.event_type,
        model_name: call.model,
        provider: call.provider,
        calculation_method: "azure_replay",
        prompt_tokens: i64::try_from(call.prompt)?,
        completion_tokens: i64::try_from(call.completion)?,
        credits_charged: RawValue::from_string(exact::literal(call.credits(), 6))?,
        cost_usd: RawValue::from_string(exact::literal(call.cost(), 9))?,
    })
}

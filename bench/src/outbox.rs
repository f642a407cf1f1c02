//! Telling others: how many events a second go out, what telling costs those who spend, and whether dead endpoints
//! delay the living.

use crate::api::Api;
use crate::books::{self, Closing};
use crate::cases::{self, Books};
use crate::open_loop::{self, Plan};
use crate::receivers::{Manner, Receiver, Tally, all_have};
use crate::server::Server;
use crate::suite::{Findings, Session};
use crate::users::{self, User};
use crate::wrk::{Driven, Load};
use crate::{Fallible, bodies, report};
use serde_json::json;
use std::time::{Duration, Instant};

/// How many endpoints listen while users spend.
const SUBSCRIBED: usize = 5;
/// How many endpoints live beside the dead ones.
const LIVING: usize = 7;
/// What the dead ones are like.
const DEAD: [Manner; 3] = [Manner::Refuses, Manner::Silent, Manner::Fails];
/// How many charges one request has.
const CHARGES: u64 = 1000;
/// How many events are sent one at a time, after the many.
const SINGLY: u64 = 200;

impl Session<'_> {
    /// Consumes as fast as can be with one endpoint that listens, until the last event has come; then at half of that rate.
    pub async fn outbox(&self, findings: &mut Findings) -> Fallible<()> {
        let connections = self.options.connections.iter().copied().max().unwrap_or(200);
        let receivers = listen(&self.api, &[Manner::Takes]).await?;
        let requests = cases::consume(self.server.address, &self.users);
        let load = Load::prepare(&self.server.storage.folder, "outbox", &requests)?;
        let noop =
            self.noop.drive(self.server.address, connections, self.options.seconds.div_ceil(2)).await?;
        let (cpu, begun) = (self.cpu()?, Instant::now());
        let opening = self.open().await?;
        let driven = load.drive(self.server.address, connections, self.options.seconds).await?;
        let closing = opening.close(&self.api, &self.users, driven.acknowledged(), connections).await?;
        all_have(&receivers, u64::try_from(closing.stored)?).await?;
        let tally = receivers[0].tally();
        let took = tally.last.ok_or("nothing came")?.duration_since(begun);
        let rate = tally.events as f64 / took.as_secs_f64();
        let sent = Driven::of_latencies(&tally.lateness_us, took);
        let mut row = self.reading("outbox", connections, &sent, cpu)?;
        row.noop_per_second = Some(noop.per_second());
        row.ratio = Some(rate / noop.per_second());
        row.books = Some(told(&tally, closing.stored));
        report::progress(&row);
        findings.note(row);

        let plan = Plan {
            address: self.server.address,
            requests: requests.into_iter().flatten().collect(),
            connections,
            per_second: rate / 2.0,
            seconds: self.options.seconds,
        };
        let cpu = self.cpu()?;
        let outcome = tokio::task::spawn_blocking(move || open_loop::drive(&plan)).await??;
        let stored = outcome.acknowledged.iter().sum::<u64>();
        all_have(&receivers, stored).await?;
        let tally = receivers[0].tally();
        let sent = Driven::of_latencies(&tally.lateness_us, outcome.took);
        let mut row = self.reading("outbox_half_rate", connections, &sent, cpu)?;
        row.books = Some(told(&tally, stored.into()));
        report::progress(&row);
        findings.note(row);
        Ok(())
    }

    /// Consumes on a second server to which five endpoints listen, beside consuming on this one, to which nobody does.
    pub async fn consume_subscribed(&self, findings: &mut Findings) -> Fallible<()> {
        let (mut server, users) = self.second("consume_subscribed_on").await?;
        let api = Api::new(&server)?;
        let receivers = listen(&api, &[Manner::Takes; SUBSCRIBED]).await?;
        let alone = Load::prepare(
            &self.server.storage.folder,
            "alone",
            &cases::consume(self.server.address, &self.users),
        )?;
        let heard = Load::prepare(&server.storage.folder, "heard", &cases::consume(server.address, &users))?;
        for &connections in &self.options.connections {
            let seconds = self.options.seconds;
            let free = alone.drive(self.server.address, connections, seconds).await?;
            let opening = books::open(&api, &users, Books::Credits(bodies::CONSUME_MICROS)).await?;
            let opening = opening.ok_or("these books are kept")?;
            let (cpu, begun) = ((server.cpu_micros()?, self.bed.database_cpu_micros()?), Instant::now());
            let driven = heard.drive(server.address, connections, seconds).await?;
            let mut row = self.reading_of(&server, "consume_subscribed", connections, &driven, cpu)?;
            row.noop_per_second = Some(free.per_second());
            row.ratio = Some(driven.per_second() / free.per_second());
            // What has not been told yet would be told while the next row is measured.
            let closing = opening.close(&api, &users, driven.acknowledged(), connections).await?;
            let stored = closing.stored;
            row.books = Some(closing);
            all_have(&receivers, u64::try_from(stored)?).await?;
            let mut lasted = Duration::ZERO;
            for receiver in &receivers {
                let tally = receiver.tally();
                lasted = lasted.max(tally.last.map_or(Duration::ZERO, |last| last.duration_since(begun)));
                if tally.events != u64::try_from(stored)? || tally.again > 0 {
                    row.books = Some(told(&tally, stored));
                }
            }
            let sent = stored as f64 * SUBSCRIBED as f64 / lasted.as_secs_f64().max(0.001);
            row.records_per_second = Some(sent);
            report::progress(&row);
            findings.note(row);
        }
        server.stop()?;
        self.bed.discard("consume_subscribed_on").await
    }

    /// Many events to seven endpoints that live; then, on a second server, to the same and three that are dead.
    pub async fn dead_endpoints(&self, findings: &mut Findings) -> Fallible<()> {
        let alone = listen(&self.api, &[Manner::Takes; LIVING]).await?;
        self.flood("seven_endpoints", (&self.server, &self.api, &self.users), &alone, findings).await?;
        let (mut server, users) = self.second("dead_endpoints_on").await?;
        let api = Api::new(&server)?;
        let manners: Vec<Manner> = DEAD.into_iter().chain([Manner::Takes; LIVING]).collect();
        let mut receivers = listen(&api, &manners).await?;
        let living = receivers.split_off(DEAD.len());
        self.flood("seven_of_ten_endpoints", (&server, &api, &users), &living, findings).await?;
        server.stop()?;
        self.bed.discard("dead_endpoints_on").await
    }

    /// As many events at once as was asked for, then some one at a time.
    async fn flood(
        &self,
        name: &str,
        (server, api, users): (&Server, &Api, &[User]),
        receivers: &[Receiver],
        findings: &mut Findings,
    ) -> Fallible<()> {
        let batches: Vec<String> =
            (0..self.options.events.div_ceil(CHARGES)).map(|batch| charges(users, batch)).collect();
        let (cpu, begun) = ((server.cpu_micros()?, self.bed.database_cpu_micros()?), Instant::now());
        users::concurrently_few(&batches, |body| async {
            api.post("/api/v1/charges/batch", body.clone()).await.map(drop)
        })
        .await?;
        let events = batches.len() as u64 * CHARGES;
        all_have(receivers, events).await?;
        let tallies: Vec<Tally> = receivers.iter().map(Receiver::tally).collect();
        let last = tallies.iter().filter_map(|tally| tally.last).max().ok_or("nothing came")?;
        self.note_all(name, server, &tallies, last.duration_since(begun), events, cpu, findings)?;

        let (cpu, begun) = ((server.cpu_micros()?, self.bed.database_cpu_micros()?), Instant::now());
        for number in 0..SINGLY {
            let user = &users[usize::try_from(number)? % users.len()];
            api.post(&user.path("/credits/consume"), bodies::CONSUME.to_owned()).await?;
            all_have(receivers, number + 1).await?;
        }
        let tallies: Vec<Tally> = receivers.iter().map(Receiver::tally).collect();
        self.note_all(&format!("{name}_singly"), server, &tallies, begun.elapsed(), SINGLY, cpu, findings)
    }

    /// A row of what all receivers got together.
    #[expect(clippy::too_many_arguments, reason = "a row has that many sides")]
    fn note_all(
        &self,
        name: &str,
        server: &Server,
        tallies: &[Tally],
        took: Duration,
        events: u64,
        cpu: (u64, Option<u64>),
        findings: &mut Findings,
    ) -> Fallible<()> {
        let mut lateness: Vec<u64> =
            tallies.iter().flat_map(|tally| tally.lateness_us.iter().copied()).collect();
        lateness.sort_unstable();
        let sent = Driven::of_latencies(&lateness, took);
        let mut row = self.reading_of(server, name, tallies.len(), &sent, cpu)?;
        let wrong = tallies.iter().find(|tally| tally.events != events || tally.again > 0);
        row.books = Some(told(wrong.unwrap_or(&tallies[0]), events.into()));
        report::progress(&row);
        findings.note(row);
        Ok(())
    }

    /// A second server, with as many users as this one.
    async fn second(&self, name: &str) -> Fallible<(Server, Vec<User>)> {
        let program = self.options.program.canonicalize()?;
        let server = Server::start(program, self.bed.storage(name).await?, &settings()).await?;
        let api = Api::new(&server)?;
        let users = users::make(&api, "second", self.users.len(), &server.jwt_secret, "1000000").await?;
        Ok((server, users))
    }

    async fn open(&self) -> Fallible<books::Opening> {
        let opening = books::open(&self.api, &self.users, Books::Credits(bodies::CONSUME_MICROS)).await?;
        opening.ok_or_else(|| "these books are kept".into())
    }
}

/// What a service must be told, so that it sends to receivers on loopback.
pub fn settings() -> [(&'static str, String); 1] {
    [("WEBHOOK_ALLOW_PRIVATE", "true".to_owned())]
}

/// Starts receivers and registers each of them for what is spent.
async fn listen(api: &Api, manners: &[Manner]) -> Fallible<Vec<Receiver>> {
    let mut receivers = Vec::new();
    for &manner in manners {
        let receiver = Receiver::start(manner).await?;
        let url = format!("http://{}/", receiver.address);
        let body = json!({"url": url, "event_types": ["credit.consumed"]});
        api.post("/api/v1/webhooks/endpoints", body.to_string()).await?;
        receivers.push(receiver);
    }
    Ok(receivers)
}

/// The books of a receiver: every event that was stored came, and none twice, because nobody died.
fn told(tally: &Tally, stored: i128) -> Closing {
    let balanced = i128::from(tally.events) == stored && tally.again == 0;
    Closing { acknowledged: tally.events + tally.again, stored, balanced }
}

/// A request of charges over all users in turn.
fn charges(users: &[User], batch: u64) -> String {
    let one = |number: u64| {
        let user = &users[usize::try_from(number).unwrap_or(0) % users.len()];
        json!({"user_id": user.id, "event_type": "ai_chat", "credits": "0.000001"})
    };
    let charges: Vec<_> = (batch * CHARGES..(batch + 1) * CHARGES).map(one).collect();
    json!({"charges": charges}).to_string()
}

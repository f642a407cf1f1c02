//! The cases: which requests each one sends, and which books must balance after it.

use crate::bodies;
use crate::sessions;
use crate::users::User;
use crate::wrk::{ID_WIDTH, Request};
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use std::net::SocketAddr;

/// A case of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Case {
    /// An authenticated POST that does nothing: what every ratio is a ratio to.
    Noop,
    /// Reading a balance, 1000 users in turn.
    Balance,
    /// Consuming from one hot user.
    ConsumeOne,
    /// Consuming from 1000 users in turn.
    ConsumeMany,
    /// Consuming at half of the measured rate, open loop, from the intended send time.
    HalfRate,
    /// Charging for a priced call, 1000 users in turn: usage record, price and debit in one.
    Charge,
    /// Holding credits and capturing the hold, 1000 users in turn; a request here is the pair.
    HoldCapture,
    /// Consuming from 1000 users in turn, with few and with very many entries in the table. Takes long to
    /// fill, so it runs only when it is named.
    ConsumeEntries,
    /// Recording one usage record, 1000 users in turn.
    UsageRecord,
    /// Recording a batch of 1000 usage records, and the bare engine doing the same.
    UsageBatch,
    /// Statistics over a short and a long history.
    Stats,
    /// Adding a message to one hot session, and to the sessions of 1000 users in turn.
    MessageAppend,
    /// The last 50 messages of a short and of a long session.
    LastMessages,
    /// The no-op with limits of rates that nobody reaches, beside the no-op without.
    RateLimited,
    /// The no-op with RS256 tokens: of 1000 users in turn, remembered; and each used for the first time.
    Tokens,
    /// Consuming while an endpoint listens, until the last event has come to it.
    Outbox,
    /// Consuming from 1000 users in turn while five endpoints listen, beside consuming while none does.
    ConsumeSubscribed,
    /// 100 000 events to seven endpoints, and to seven beside three dead ones. It runs only when it is named.
    DeadEndpoints,
    /// Uploading and downloading large and small files, beside `dd` and nginx.
    Files,
}

/// What the books of a case count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Books {
    /// Nothing changes.
    None,
    /// Every acknowledged request debits so many micro-credits.
    Credits(i128),
    /// Every acknowledged request stores this many usage records.
    Usage(usize),
    /// Every acknowledged request adds a message.
    Messages,
}

impl Case {
    /// The cases that run unless some are named, in their order.
    pub fn all() -> Vec<Self> {
        let cases = Self::value_variants().iter().copied();
        cases.filter(|case| ![Self::ConsumeEntries, Self::DeadEndpoints].contains(case)).collect()
    }

    /// The case's name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::RateLimited => "rate_limited",
            Self::Balance => "balance",
            Self::ConsumeOne => "consume_one",
            Self::ConsumeMany => "consume_many",
            Self::HalfRate => "half_rate",
            Self::Charge => "charge",
            Self::HoldCapture => "hold_capture",
            Self::ConsumeEntries => "consume_entries",
            Self::UsageRecord => "usage_record",
            Self::UsageBatch => "usage_batch",
            Self::Stats => "stats",
            Self::MessageAppend => "message_append",
            Self::LastMessages => "last_messages",
            Self::Tokens => "tokens",
            Self::Outbox => "outbox",
            Self::ConsumeSubscribed => "consume_subscribed",
            Self::DeadEndpoints => "dead_endpoints",
            Self::Files => "files",
        }
    }

    /// What must balance after each row of the case.
    pub fn books(self, batch_records: usize) -> Books {
        match self {
            Self::ConsumeOne
            | Self::ConsumeMany
            | Self::HalfRate
            | Self::HoldCapture
            | Self::ConsumeEntries => Books::Credits(bodies::CONSUME_MICROS),
            Self::Charge => Books::Credits(bodies::CHARGE_MICROS),
            Self::UsageRecord => Books::Usage(1),
            Self::UsageBatch => Books::Usage(batch_records),
            Self::MessageAppend => Books::Messages,
            Self::Noop
            | Self::RateLimited
            | Self::Tokens
            | Self::Outbox
            | Self::ConsumeSubscribed
            | Self::DeadEndpoints
            | Self::Balance
            | Self::Stats
            | Self::LastMessages
            | Self::Files => Books::None,
        }
    }
}

/// The caller's proof of who it is, as a header line.
pub fn bearer(user: &User) -> String {
    format!("Authorization: Bearer {}", user.token)
}

/// The no-op of every user in turn.
pub fn noop(address: SocketAddr, users: &[User]) -> Vec<Request> {
    users.iter().map(|user| vec![post(address, "/api/v1/noop", &bearer(user), bodies::CONSUME)]).collect()
}

/// The no-op with every token in turn.
pub fn noop_with(address: SocketAddr, tokens: &[String]) -> Vec<Request> {
    let caller = |token: &String| format!("Authorization: Bearer {token}");
    tokens.iter().map(|token| vec![post(address, "/api/v1/noop", &caller(token), bodies::CONSUME)]).collect()
}

/// The balance of every user in turn, read by the user itself.
pub fn balance(address: SocketAddr, users: &[User]) -> Vec<Request> {
    users.iter().map(|user| vec![get(address, &user.path("/credits/balance"), &bearer(user))]).collect()
}

/// A consume of every user in turn, by the user itself.
pub fn consume(address: SocketAddr, users: &[User]) -> Vec<Request> {
    let one = |user: &User| post(address, &user.path("/credits/consume"), &bearer(user), bodies::CONSUME);
    users.iter().map(|user| vec![one(user)]).collect()
}

/// A priced charge of every user in turn, by the user itself.
pub fn charge(address: SocketAddr, users: &[User]) -> Vec<Request> {
    let one = |user: &User| post(address, &user.path("/charges"), &bearer(user), bodies::CHARGE);
    users.iter().map(|user| vec![one(user)]).collect()
}

/// A usage record of every user in turn, by the user itself.
pub fn usage_record(address: SocketAddr, users: &[User]) -> Vec<Request> {
    let one = |(number, user): (usize, &User)| {
        post(address, &user.path("/usage"), &bearer(user), &bodies::usage(number).to_string())
    };
    users.iter().enumerate().map(|pair| vec![one(pair)]).collect()
}

/// Batches over `users_per_batch` users each, until every user has had a turn, with the service key.
pub fn usage_batch(
    address: SocketAddr,
    key: &str,
    users: &[User],
    users_per_batch: usize,
    records: usize,
    now: DateTime<Utc>,
) -> Vec<Request> {
    users
        .chunks(users_per_batch)
        .map(|users| {
            let fragments = bodies::batch(users, records, now);
            let length = fragments.iter().map(String::len).sum::<usize>() + (fragments.len() - 1) * ID_WIDTH;
            let head = head("POST", address, "/api/v1/usage/batch", &format!("X-API-Key: {key}"), length);
            let mut request: Request = fragments.into_iter().map(String::into_bytes).collect();
            request[0] = [head.into_bytes(), std::mem::take(&mut request[0])].concat();
            request
        })
        .collect()
}

/// One user's statistics, asked by the user itself.
pub fn stats(address: SocketAddr, user: &User, query: &str) -> Vec<Request> {
    vec![vec![get(address, &user.path(&format!("/usage/stats{query}")), &bearer(user))]]
}

/// A message to every session in turn, by its user.
pub fn message_append(address: SocketAddr, users: &[User], sessions: &[String]) -> Vec<Request> {
    let one = |(number, (user, session)): (usize, (&User, &String))| {
        let body = sessions::message(number).to_string();
        vec![post(address, &format!("{session}/messages"), &bearer(user), &body)]
    };
    users.iter().zip(sessions).enumerate().map(one).collect()
}

/// The last 50 messages of a session, asked by its user.
pub fn last_messages(address: SocketAddr, user: &User, session: &str) -> Vec<Request> {
    vec![vec![get(address, &format!("{session}/messages?order=desc&limit=50"), &bearer(user))]]
}

fn head(method: &str, address: SocketAddr, path: &str, caller: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{caller}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// A whole POST.
pub fn post(address: SocketAddr, path: &str, caller: &str, body: &str) -> Vec<u8> {
    [head("POST", address, path, caller, body.len()).as_bytes(), body.as_bytes()].concat()
}

fn get(address: SocketAddr, path: &str, caller: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{caller}\r\n\r\n").into_bytes()
}

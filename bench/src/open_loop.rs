//! Driving at a constant rate: requests are due at fixed instants, whatever the service does, and
//! latency counts from the instant a request was due. A stall is therefore charged to every request
//! that should have been sent meanwhile (no coordinated omission).
//!
//! One thread over `epoll` with a nanosecond time-out: it takes little from the cores that it shares
//! with the service, and a timer of whole milliseconds would add half of one to every answer.

use crate::Fallible;
use rustix::event::epoll;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long after the last send answers are waited for.
const DRAIN_LIMIT: Duration = Duration::from_secs(35);

/// What to send, and how often.
pub struct Plan {
    /// The service.
    pub address: SocketAddr,
    /// Whole requests, sent in turn.
    pub requests: Vec<Vec<u8>>,
    /// Keep-alive connections; a request that is due while all are busy waits, and its clock runs.
    pub connections: usize,
    /// Requests per second.
    pub per_second: f64,
    /// How long requests fall due.
    pub seconds: u64,
}

/// What came back.
pub struct Outcome {
    /// Requests sent.
    pub sent: u64,
    /// Answers other than 2xx.
    pub refused: u64,
    /// Latency of every answer in microseconds, ascending.
    pub latencies_us: Vec<u32>,
    /// 2xx answers to each of the plan's requests.
    pub acknowledged: Vec<u64>,
    /// From the first due instant to the last answer.
    pub took: Duration,
}

impl Outcome {
    /// The latency that `share` of the answers (0 to 1) did not exceed, in microseconds.
    pub fn percentile_us(&self, share: f64) -> u32 {
        let last = self.latencies_us.len().saturating_sub(1);
        let at = (self.latencies_us.len() as f64 * share).ceil() as usize;
        self.latencies_us.get(at.saturating_sub(1).min(last)).copied().unwrap_or(0)
    }
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    due: Instant,
    request: usize,
}

/// Sends the plan and waits for every answer. Blocks its thread.
pub fn drive(plan: &Plan) -> Fallible<Outcome> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = connect(plan, &poll)?;
    let mut idle: VecDeque<usize> = (0..connections.len()).collect();
    let total = (plan.per_second * plan.seconds as f64) as u64;
    let mut outcome = Outcome {
        sent: 0,
        refused: 0,
        latencies_us: Vec::with_capacity(usize::try_from(total)?),
        acknowledged: vec![0; plan.requests.len()],
        took: Duration::ZERO,
    };
    let begun = Instant::now();
    let due = |number: u64| begun + Duration::from_secs_f64(number as f64 / plan.per_second);
    let deadline = due(total) + DRAIN_LIMIT;
    let mut events = Vec::with_capacity(plan.connections);
    while outcome.sent < total || idle.len() < connections.len() {
        while outcome.sent < total && due(outcome.sent) <= Instant::now() {
            let Some(free) = idle.pop_front() else { break };
            let connection = &mut connections[free];
            connection.due = due(outcome.sent);
            connection.request = usize::try_from(outcome.sent)? % plan.requests.len();
            // A request fits the empty send buffer whole: the connection has nothing else under way.
            connection.stream.write_all(&plan.requests[connection.request])?;
            outcome.sent += 1;
        }
        if Instant::now() > deadline {
            return Err("the service left requests unanswered".into());
        }
        let wait = if outcome.sent < total && !idle.is_empty() {
            due(outcome.sent).saturating_duration_since(Instant::now())
        } else {
            Duration::from_secs(1)
        };
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&wait.try_into()?))?;
        for event in &events {
            let index = usize::try_from(event.data.u64())?;
            if let Some(status) = connections[index].receive()? {
                outcome.settle(&connections[index], status);
                idle.push_back(index);
            }
        }
    }
    outcome.took = begun.elapsed();
    outcome.latencies_us.sort_unstable();
    Ok(outcome)
}

impl Outcome {
    fn settle(&mut self, connection: &Connection, status: u16) {
        let latency = connection.due.elapsed().as_micros();
        self.latencies_us.push(u32::try_from(latency).unwrap_or(u32::MAX));
        if (200..300).contains(&status) {
            self.acknowledged[connection.request] += 1;
        } else {
            self.refused += 1;
        }
    }
}

fn connect(plan: &Plan, poll: &impl std::os::fd::AsFd) -> Fallible<Vec<Connection>> {
    let mut connections = Vec::with_capacity(plan.connections);
    for index in 0..plan.connections {
        let stream = TcpStream::connect(plan.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(poll, &stream, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        connections.push(Connection { stream, received: Vec::new(), due: Instant::now(), request: 0 });
    }
    Ok(connections)
}

impl Connection {
    /// Reads what has arrived; answers the status once the whole answer is here.
    fn receive(&mut self) -> Fallible<Option<u16>> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the service closed a connection".into()),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
            if let Some(status) = complete(&self.received)? {
                self.received.clear();
                return Ok(Some(status));
            }
        }
        Ok(None)
    }
}

/// The status of the answer in `bytes`, or none while it is not whole.
pub fn complete(bytes: &[u8]) -> Fallible<Option<u16>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let mut lines = head.split("\r\n");
    let status =
        lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or("unreadable status line")?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .ok_or("an answer without Content-Length")?;
    Ok((bytes.len() >= end + 4 + length).then_some(status))
}

#[cfg(test)]
mod tests {
    use super::{Outcome, complete};
    use std::time::Duration;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(complete(answer).unwrap(), Some(201));
        assert_eq!(complete(&answer[..answer.len() - 1]).unwrap(), None);
        assert_eq!(complete(&answer[..20]).unwrap(), None);
        assert!(complete(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn percentiles_take_the_answer_that_covers_the_share() {
        let latencies_us = (1..=100).collect();
        let outcome =
            Outcome { sent: 100, refused: 0, latencies_us, acknowledged: Vec::new(), took: Duration::ZERO };
        assert_eq!(outcome.percentile_us(0.5), 50);
        assert_eq!(outcome.percentile_us(0.99), 99);
        assert_eq!(outcome.percentile_us(1.0), 100);
    }
}

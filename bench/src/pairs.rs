//! Driving a hold and its capture: the second request names what the first was answered with, which
//! prepared requests cannot. A closed loop, one blocking thread for each connection; the no-op that it
//! is compared with is driven in the same way, two for each pair.

use crate::Fallible;
use crate::cases::{bearer, post};
use crate::open_loop::complete;
use crate::users::User;
use crate::wrk::Driven;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What is held, and what of it is charged: the smallest amounts.
const HOLD: &str = r#"{"amount":0.000002,"expires_in":600}"#;
const CAPTURE: &str = r#"{"amount":0.000001}"#;

/// What a pair is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pair {
    /// Twice nothing.
    Noop,
    /// A hold, captured.
    HoldCapture,
}

/// Drives pairs over so many connections, each with users of its own. Blocks its thread.
pub fn drive(
    address: SocketAddr,
    users: &[User],
    pair: Pair,
    connections: usize,
    seconds: u64,
) -> Fallible<Driven> {
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    let share = users.len().div_ceil(connections).max(1);
    let latencies = std::thread::scope(|scope| {
        let threads: Vec<_> = users
            .chunks(share)
            .map(|users| {
                let over = &over;
                scope.spawn(move || one_connection(address, users, pair, over))
            })
            .collect();
        std::thread::sleep(Duration::from_secs(seconds));
        over.store(true, Ordering::Relaxed);
        let ended = threads.into_iter().map(|thread| {
            thread.join().map_err(|_| "a driving thread ended badly".into()).and_then(|found| found)
        });
        ended.collect::<Fallible<Vec<Vec<u64>>>>()
    })?;
    let took = begun.elapsed();
    let mut latencies: Vec<u64> = latencies.into_iter().flatten().collect();
    latencies.sort_unstable();
    Ok(Driven::of_latencies(&latencies, took))
}

fn one_connection(address: SocketAddr, users: &[User], pair: Pair, over: &AtomicBool) -> Fallible<Vec<u64>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(35)))?;
    let mut latencies = Vec::new();
    for user in users.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let sent = Instant::now();
        match pair {
            Pair::Noop => {
                for body in [HOLD, CAPTURE] {
                    ask(&mut stream, &post(address, "/api/v1/noop", &bearer(user), body))?;
                }
            }
            Pair::HoldCapture => {
                let held =
                    ask(&mut stream, &post(address, &user.path("/credits/holds"), &bearer(user), HOLD))?;
                let id = held.split("\"hold_id\":\"").nth(1).and_then(|rest| rest.split('"').next());
                let id = id.ok_or("a hold without an id")?;
                let path = user.path(&format!("/credits/holds/{id}/capture"));
                ask(&mut stream, &post(address, &path, &bearer(user), CAPTURE))?;
            }
        }
        latencies.push(u64::try_from(sent.elapsed().as_micros())?);
    }
    Ok(latencies)
}

/// Sends a request and reads its whole answer, which must be a success.
fn ask(stream: &mut TcpStream, request: &[u8]) -> Fallible<String> {
    stream.write_all(request)?;
    let (mut received, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err("the service closed a connection".into());
        }
        received.extend_from_slice(&chunk[..count]);
        if let Some(status) = complete(&received)? {
            let answer = String::from_utf8_lossy(&received).into_owned();
            return if status == 200 { Ok(answer) } else { Err(format!("refused: {answer}").into()) };
        }
    }
}

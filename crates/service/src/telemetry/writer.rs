//! How log lines get out: appended to memory by whoever logs, written by one thread.
//!
//! While one write is under way the next lines gather, so a busy service makes few system calls
//! and an idle one writes each line at once. A reader that stops reading costs lines, which are
//! counted and reported, and never time.

use parking_lot::{Condvar, Mutex};
use std::{
    io::{self, Write},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tracing_subscriber::fmt::MakeWriter;

/// The most bytes that wait to be written, beside as many under way; lines beyond are dropped and counted.
const PENDING_MAX_BYTES: usize = 8 << 20;
/// Capacity that a buffer keeps after a burst.
const KEPT_BYTES: usize = 64 << 10;
/// How long the end of the process waits for a reader of the last lines.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    dropped: u64,
    writing: bool,
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    filled: Condvar,
    emptied: Condvar,
}

/// Where lines are appended; cheap to clone.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

/// Writes out what waits, for at most two seconds, when it is dropped.
#[must_use = "the last lines are lost when the guard is dropped early"]
pub struct LogGuard(Arc<Shared>);

/// Starts the thread that writes lines to `sink` for the rest of the process's life.
pub(super) fn start(sink: impl Write + Send + 'static) -> io::Result<(Lines, LogGuard)> {
    let shared = Arc::new(Shared::default());
    let theirs = Arc::clone(&shared);
    thread::Builder::new().name("log-writer".into()).spawn(move || write_forever(&theirs, sink))?;
    Ok((Lines(Arc::clone(&shared)), LogGuard(shared)))
}

fn write_forever(shared: &Shared, mut sink: impl Write) {
    let mut bytes = Vec::new();
    loop {
        let dropped = {
            let mut pending = shared.pending.lock();
            pending.writing = false;
            while pending.bytes.is_empty() && pending.dropped == 0 {
                shared.emptied.notify_all();
                shared.filled.wait(&mut pending);
            }
            pending.writing = true;
            std::mem::swap(&mut bytes, &mut pending.bytes);
            std::mem::take(&mut pending.dropped)
        };
        // Nobody is left to tell when the log itself cannot be written.
        let _ = sink.write_all(&bytes).and_then(|()| sink.flush());
        bytes.clear();
        bytes.shrink_to(KEPT_BYTES);
        if dropped > 0 {
            tracing::warn!(dropped, "log lines were dropped because they were not read fast enough");
        }
    }
}

impl Write for &Lines {
    /// Takes one whole line; the formatting layer never hands over less.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut pending = self.0.pending.lock();
        if pending.bytes.len() + line.len() > PENDING_MAX_BYTES {
            pending.dropped += 1;
        } else {
            pending.bytes.extend_from_slice(line);
        }
        drop(pending);
        self.0.filled.notify_one();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let until = Instant::now() + FLUSH_LIMIT;
        let mut pending = self.0.pending.lock();
        while pending.writing || !pending.bytes.is_empty() {
            if self.0.emptied.wait_until(&mut pending, until).timed_out() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Passes on what is written; says so before each write, and then waits until the test allows it.
    struct Gate {
        entered: mpsc::Sender<()>,
        open: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.entered.send(());
            let _ = self.open.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Reader {
        entered: mpsc::Receiver<()>,
        opener: mpsc::Sender<()>,
        written: mpsc::Receiver<Vec<u8>>,
    }

    fn gate() -> (Reader, Lines, LogGuard) {
        let (enter, entered) = mpsc::channel();
        let (opener, open) = mpsc::channel();
        let (write, written) = mpsc::channel();
        let (lines, guard) = start(Gate { entered: enter, open, written: write }).expect("thread");
        (Reader { entered, opener, written }, lines, guard)
    }

    #[test]
    fn lines_of_many_threads_arrive_whole_and_all_before_the_guard_is_gone() {
        let (reader, lines, guard) = gate();
        drop(reader.opener);
        thread::scope(|scope| {
            for number in 0..4 {
                let lines = lines.clone();
                scope.spawn(move || {
                    (0..500).for_each(|at| {
                        (&lines).write_all(format!("{number}:{at:03}\n").as_bytes()).expect("line")
                    });
                });
            }
        });
        drop(guard);
        let text = String::from_utf8(reader.written.try_iter().flatten().collect()).expect("UTF-8");
        let mut found: Vec<&str> = text.lines().collect();
        found.sort_unstable();
        let sent: Vec<String> = (0..2000).map(|n| format!("{}:{:03}", n / 500, n % 500)).collect();
        assert_eq!(found, sent);
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_and_not_time() {
        let (reader, lines, guard) = gate();
        let line = vec![b'x'; 1 << 20];
        (&lines).write_all(&line).expect("taken");
        reader.entered.recv().expect("the write under way");
        for _ in 0..20 {
            (&lines).write_all(&line).expect("taken");
        }
        assert_eq!(lines.0.pending.lock().dropped, 12, "eight lines fit beside the one under way");
        drop(reader.opener);
        drop(guard);
        assert_eq!(reader.written.try_iter().flatten().count(), 9 << 20);
    }
}

//! Waiting with an end: a call that may hang (a stat on a dead NFS server) is made by a thread that can be abandoned.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a source may take to answer before a mount is refused. An NFS client's first retransmission comes after 60
/// s over TCP, so a server that is merely busy is not given up.
pub const SOURCE_PATIENCE: Duration = Duration::from_secs(60);
/// How long a fresh mount may take to answer its first stat.
pub const READY_PATIENCE: Duration = Duration::from_secs(60);

/// What `call` returns, or nothing once `limit` is over. Then its thread stays behind until the call returns, or the
/// process ends.
pub fn within<T: Send + 'static>(limit: Duration, call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (answer, wait) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("patience".to_owned()).spawn(move || {
        // Nobody may be waiting any more.
        let _ = answer.send(call());
    });
    thread.ok()?;
    wait.recv_timeout(limit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_time_is_handed_on() {
        assert_eq!(within(Duration::from_secs(5), || 7), Some(7));
    }

    #[test]
    fn a_call_that_hangs_is_given_up() {
        let (_keep, never) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(20), move || never.recv()), None);
    }
}

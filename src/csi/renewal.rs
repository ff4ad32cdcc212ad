//! A changed rules file reaches the volumes that are shown already: its content is looked at every now and then, and handed to
//! the mount host, whose daemons judge it.

use std::io;
use std::path::PathBuf;
use std::thread;

use crate::config::{WATCH_INTERVAL, Watch};
use crate::host::{Client, Code};

/// Follows the file for as long as the process lives.
///
/// # Errors
/// Where the thread cannot be made.
pub(super) fn follow(path: PathBuf, host: Client) -> io::Result<()> {
    let look = move || {
        let mut watch = Watch::new(path);
        let mut to_send = None;
        loop {
            match watch.look() {
                // Twice: a volume that is being published may have had the old ones.
                Some(Ok(text)) => to_send = Some((text, 2)),
                Some(Err(error)) => tracing::error!(%error, "the rules cannot be read; those in force hold"),
                None => {}
            }
            to_send = to_send.and_then(|(text, times)| send(&host, text, times));
            thread::sleep(WATCH_INTERVAL);
        }
    };
    thread::Builder::new().name("rules-watch".to_owned()).spawn(look).map(drop)
}

/// What is to be sent again.
fn send(host: &Client, text: String, times: u32) -> Option<(String, u32)> {
    let refusal = match host.renew(text.clone()) {
        Ok(()) => return (times > 1).then_some((text, times - 1)),
        Err(refusal) => refusal,
    };
    match refusal.code {
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => {
            tracing::warn!(%refusal, "not every volume has the rules of the moment; trying again");
            Some((text, times))
        }
        // A host of an older version, say.
        _ => {
            tracing::error!(%refusal, "the volumes that are shown keep the rules that they have");
            None
        }
    }
}

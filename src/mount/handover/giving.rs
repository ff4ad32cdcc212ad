//! The old keeper's side: its worker has stopped, and nobody reads requests until one of the two sides goes on.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::socket::{UnixAddr, connect};

use super::super::claim;
use super::super::recipe::Recipe;
use super::{Gift, Line, Reply};
use crate::state::State;
use crate::sys::{Errno, passing};

/// Gives the mount away. Returns when the other side serves: nothing of the mount is this process's any more.
///
/// # Errors
/// Why it did not come to that; then no process of the other side is left to serve, and this one goes on.
pub(in super::super) fn give(state: &State) -> Result<(), String> {
    let recipe = Recipe::read(state).ok_or("what the other side needs to know was not left")?;
    let line = call(&recipe).map_err(|error| format!("the program that asked is not there: {error}"))?;
    let ours = match recipe.namespace {
        Some(_) => None,
        None => {
            Some(File::open("/proc/self/ns/mnt").map_err(|error| format!("its mount namespace: {error}"))?)
        }
    };
    let namespace = recipe.namespace.or_else(|| ours.as_ref().map(AsRawFd::as_raw_fd));
    let namespace = namespace.ok_or("its mount namespace is not known")?;
    let mut numbers = state.recorded_descriptors();
    numbers.extend([recipe.lock, recipe.control, namespace]);
    numbers.sort_unstable();
    numbers.dedup();
    if let Err(error) = send(&line, &numbers, state.memory_fd(), namespace) {
        // Who has refused does not listen any more.
        return Err(match line.hear() {
            Ok((Reply::Refused(why), _)) => why,
            _ => format!("what is open cannot be handed over: {error}"),
        });
    }
    // There is no end to this: a side that could still serve must not be given up.
    let heard = line.wait_without_end().and_then(|()| line.hear());
    match heard {
        Ok((Reply::Serves, _)) => Ok(()),
        Ok((Reply::Refused(why), _)) => Err(why),
        Err(error) => Err(format!("the new program ended before it could serve ({error}); see its log")),
    }
}

fn call(recipe: &Recipe) -> Result<Line, Errno> {
    let socket = Line::new_socket()?;
    connect(socket.as_raw_fd(), &UnixAddr::new(&claim::meeting_point(&recipe.claim))?)?;
    Line::over(socket)
}

fn send(line: &Line, numbers: &[RawFd], memory: RawFd, namespace: RawFd) -> Result<(), Errno> {
    line.say(&Gift::Highest(numbers.last().copied().unwrap_or_default()), &[])?;
    for portion in numbers.chunks(passing::MAX_PASSED) {
        line.say(&Gift::Descriptors(portion.to_vec()), portion)?;
    }
    line.say(&Gift::Whole { memory, namespace }, &[])
}

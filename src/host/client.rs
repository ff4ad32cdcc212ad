//! The plugin's side of the host's socket: one blocking call per connection, each with a deadline.

use std::path::PathBuf;
use std::time::Duration;

use super::protocol::{
    Answer, Code, Made, MakeVolume, Publish, Refusal, RemoveVolume, Request, Stage, Stats, Survey, Volume,
};
use super::wire::{self, WireError};

/// How long the host may take to say that it is there.
const READY_PATIENCE: Duration = Duration::from_secs(3);
/// How long a host may take to end its calls for another: longer than it waits for them itself.
const STAND_UP_PATIENCE: Duration = Duration::from_secs(20);
/// How long a mount may take: within kubelet's two minutes (csiTimeout), so that it hears the reason.
const MOUNT_PATIENCE: Duration = Duration::from_secs(110);
/// How long an unmount may take.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(55);
/// How long the host may take to look at a volume, or at all of them: longer than it waits for a server itself.
const STATS_PATIENCE: Duration = Duration::from_secs(10);

/// The host behind a socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The host that listens at `socket`, now or later.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Whether the host is there and can mount.
    pub fn ready(&self) -> Result<(), Refusal> {
        done(self.ask(Request::Ready, READY_PATIENCE)?)
    }

    /// Has it leave the node's volumes to this container's host.
    pub(super) fn stand_up(&self, namespace: Option<u64>) -> Result<(), Refusal> {
        done(self.ask(Request::StandUp { namespace }, STAND_UP_PATIENCE)?)
    }

    /// Mounts an export for the volumes on it.
    pub fn stage(&self, stage: Stage) -> Result<(), Refusal> {
        done(self.ask(Request::Stage(stage), MOUNT_PATIENCE)?)
    }

    /// Undoes [`Self::stage`].
    pub fn unstage(&self, staging: PathBuf) -> Result<(), Refusal> {
        done(self.ask(Request::Unstage { staging }, UNMOUNT_PATIENCE)?)
    }

    /// Shows a volume.
    pub fn publish(&self, publish: Publish) -> Result<(), Refusal> {
        done(self.ask(Request::Publish(Box::new(publish)), MOUNT_PATIENCE)?)
    }

    /// Undoes [`Self::publish`].
    pub fn unpublish(&self, target: PathBuf) -> Result<(), Refusal> {
        done(self.ask(Request::Unpublish { target }, UNMOUNT_PATIENCE)?)
    }

    /// Has the volumes that are shown follow a changed rules file.
    pub fn renew(&self, text: String) -> Result<(), Refusal> {
        done(self.ask(Request::Renew { text }, MOUNT_PATIENCE)?)
    }

    /// How all published volumes are served.
    pub fn survey(&self) -> Result<Survey, Refusal> {
        match self.ask(Request::Survey, STATS_PATIENCE)? {
            Answer::Survey(survey) => Ok(survey),
            other => Err(unexpected(&other)),
        }
    }

    /// How a volume fares.
    pub fn stats(&self, volume_id: String, path: PathBuf) -> Result<Stats, Refusal> {
        match self.ask(Request::Stats { volume_id, path }, STATS_PATIENCE)? {
            Answer::Stats(stats) => Ok(stats),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a volume.
    pub fn make_volume(&self, make: MakeVolume) -> Result<Made, Refusal> {
        volume(self.ask(Request::MakeVolume(Box::new(make)), MOUNT_PATIENCE)?)
    }

    /// Removes a volume.
    pub fn remove_volume(&self, remove: RemoveVolume) -> Result<(), Refusal> {
        done(self.ask(Request::RemoveVolume(Box::new(remove)), MOUNT_PATIENCE)?)
    }

    /// Whether a volume is there.
    pub fn find_volume(&self, sought: Volume) -> Result<Made, Refusal> {
        volume(self.ask(Request::FindVolume(Box::new(sought)), MOUNT_PATIENCE)?)
    }

    fn ask(&self, request: Request, patience: Duration) -> Result<Answer, Refusal> {
        let ask = || -> Result<Answer, WireError> {
            let mut stream = wire::dial(&self.socket)?;
            wire::send(&mut stream, request)?;
            wire::receive(&stream, patience)
        };
        match ask() {
            Ok(Answer::Refused(refusal)) => Err(refusal),
            Ok(answer) => Ok(answer),
            Err(error) if error.is_timeout() => {
                let sentence = format!(
                    "the mount host did not end the call within {} s; it goes on",
                    patience.as_secs()
                );
                Err(Refusal::new(Code::DeadlineExceeded, sentence))
            }
            Err(error) => {
                let socket = self.socket.display();
                let sentence = format!(
                    "the mount host at {socket} does not answer: {error}; see the host's pod on this node"
                );
                Err(Refusal::new(Code::Unavailable, sentence))
            }
        }
    }
}

fn done(answer: Answer) -> Result<(), Refusal> {
    match answer {
        Answer::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn volume(answer: Answer) -> Result<Made, Refusal> {
    match answer {
        Answer::Volume(made) => Ok(made),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(answer: &Answer) -> Refusal {
    Refusal::new(Code::Internal, format!("the mount host answered something else than was asked: {answer:?}"))
}

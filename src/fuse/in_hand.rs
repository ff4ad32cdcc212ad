//! What the workers have in hand, seen from beside them: who is held up, and whose caller is no more.
//!
//! A request that the daemon has read the kernel waits for without an end, also where the caller was killed
//! (`request_wait_answer`, fs/fuse/dev.c), and a hard NFS mount may answer in an hour. So a request whose caller is dying is answered
//! EINTR from here; its worker finds, when it comes back, that nobody waits for its answer, and undoes what it opened or
//! counted. One that has been looked at for long by this node's root is answered with what is known (`bystander`). A signal that is merely handled interrupts nothing, as on NFS itself (nfs(5), `intr`): the kernel's INTERRUPT does
//! not tell the two apart, /proc does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::decode::Header;
use super::device::Device;
use super::opcode::Opcode;
use crate::fs::{Absence, CallerId, Errno, NodeId, Pid, RequestId};
use crate::state::slot::Control;
use crate::sys::process::is_dying;

/// After this long with one request a worker counts as held up: longer than a server that works takes.
const HELD_UP_AFTER: Duration = Duration::from_millis(200);

/// After this long this node's root is told what is known, rather than what a server that is away would say.
const NODE_WAITS: Duration = Duration::from_secs(5);

/// What this node's root may be told without asking the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// GETATTR.
    Attributes,
    /// STATX.
    Birth,
    /// STATFS.
    Space,
}

/// Somebody who looks at an object, for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Looker {
    pub(crate) request: RequestId,
    pub(crate) caller: CallerId,
    pub(crate) node: NodeId,
    pub(crate) look: Look,
}

impl Looker {
    /// The look that a request is, if it is one.
    fn of(header: &Header) -> Option<Self> {
        let look = match header.opcode? {
            Opcode::Getattr => Look::Attributes,
            Opcode::Statx => Look::Birth,
            Opcode::Statfs => Look::Space,
            _ => return None,
        };
        Some(Self { request: header.request, caller: header.caller, node: header.node?, look })
    }
}

/// The request that one worker is at.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    /// Its number; 0 where there is none.
    request: AtomicU64,
    caller: AtomicU32,
    /// The last look of a root's.
    look: Mutex<Option<Looker>>,
    /// Where a successor would find it.
    control: OnceLock<Arc<Control>>,
}

impl InHand {
    /// The worker's requests are those of this slot.
    pub(crate) fn belongs_to(&self, control: &Arc<Control>) {
        // A worker has one slot.
        let _ = self.control.set(Arc::clone(control));
    }

    /// Its caller is answered from beside.
    fn abandon(&self, request: RequestId) {
        if let Some(control) = self.control.get() {
            control.abandon(request.0);
        }
    }

    /// The worker begins.
    pub(crate) fn take(&self, header: &Header) {
        if header.caller.uid.is_some_and(|uid| uid.is_root())
            && let Some(looker) = Looker::of(header)
        {
            *self.look.lock().unwrap_or_else(PoisonError::into_inner) = Some(looker);
        }
        self.caller.store(header.caller.pid.0, Ordering::Relaxed);
        self.request.store(header.request.0, Ordering::Release);
    }

    /// It is through.
    pub(crate) fn put_down(&self) {
        self.request.store(0, Ordering::Release);
    }

    /// Who looks by this request, where that is a root.
    fn looker(&self, request: RequestId) -> Option<Looker> {
        self.look.lock().unwrap_or_else(PoisonError::into_inner).filter(|looker| looker.request == request)
    }

    fn get(&self) -> Option<(RequestId, Pid)> {
        let request = self.request.load(Ordering::Acquire);
        let caller = self.caller.load(Ordering::Acquire);
        // The same request before and after, so that the caller is its own.
        (request != 0 && self.request.load(Ordering::Acquire) == request)
            .then_some((RequestId(request), Pid(caller)))
    }
}

/// How many workers have something in hand, and how many have had it for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Looked {
    pub(crate) at_work: usize,
    pub(crate) held_up: usize,
}

/// What becomes of a look that takes long.
#[derive(Debug)]
pub(crate) enum Told {
    /// Nothing, until now.
    NotYet,
    /// It waits for the server.
    Waits,
    /// It is answered from beside, and the server is away for as long as its worker waits.
    Answered { _absence: Option<Absence> },
}

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(crate) struct Overseer {
    seen: Mutex<HashMap<RequestId, Seen>>,
}

#[derive(Debug)]
struct Seen {
    since: Instant,
    given_up: bool,
    told: Told,
}

impl Overseer {
    /// Looks at all that is in hand, and answers for callers that are dying. `answer` is told of roots that have looked at something for
    /// long, until it says what becomes of that.
    pub(crate) fn look<'a>(
        &self,
        device: &Device,
        answer: &dyn Fn(Looker) -> Told,
        workers: impl Iterator<Item = &'a InHand>,
    ) -> Looked {
        let now = Instant::now();
        // Only ever one thread looks.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut still = HashMap::new();
        let mut looked = Looked::default();
        for (worker, request, caller) in
            workers.filter_map(|worker| worker.get().map(|(request, caller)| (worker, request, caller)))
        {
            let new = Seen { since: now, given_up: false, told: Told::NotYet };
            let mut this = seen.remove(&request).unwrap_or(new);
            looked.at_work += 1;
            if now - this.since >= HELD_UP_AFTER {
                looked.held_up += 1;
                if !this.given_up && is_dying(caller.0) {
                    this.given_up = true;
                    worker.abandon(request);
                    // The worker may have answered by now; then the request is no more.
                    let _ = device.refuse(request, Errno::EINTR);
                }
            }
            if now - this.since >= NODE_WAITS && !this.given_up && matches!(this.told, Told::NotYet) {
                this.told = worker.looker(request).map_or(Told::Waits, answer);
            }
            still.insert(request, this);
        }
        *seen = still;
        looked
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};
    use std::thread::sleep;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;
    use crate::policy::{PodGid, PodUid};

    fn request(number: u64, caller: u32) -> Header {
        asked(number, caller, PodUid::new(50000), Opcode::Read)
    }

    fn asked(number: u64, pid: u32, uid: Option<PodUid>, opcode: Opcode) -> Header {
        let caller = CallerId { uid, gid: PodGid::new(0), pid: Pid(pid) };
        Header { opcode: Some(opcode), request: RequestId(number), node: Some(NodeId::ROOT), caller }
    }

    fn nobody(_: Looker) -> Told {
        Told::Waits
    }

    #[test]
    fn a_request_in_hand_for_long_is_counted_until_it_is_put_down() {
        let device = Device::from(std::fs::File::open("/dev/null").unwrap());
        let (overseer, worker, idle) = (Overseer::default(), InHand::default(), InHand::default());
        let look = || overseer.look(&device, &nobody, [&worker, &idle].into_iter());
        assert_eq!(look(), Looked::default());
        worker.take(&request(7, std::process::id()));
        assert_eq!(look(), Looked { at_work: 1, held_up: 0 });
        sleep(HELD_UP_AFTER);
        assert_eq!(look(), Looked { at_work: 1, held_up: 1 });
        worker.take(&request(9, std::process::id()));
        assert_eq!(look(), Looked { at_work: 1, held_up: 0 });
        worker.put_down();
        assert_eq!(look(), Looked::default());
    }

    #[test]
    fn a_root_that_looks_for_long_is_told_of_until_it_is_answered_and_nobody_else_is() {
        let device = Device::from(std::fs::File::open("/dev/null").unwrap());
        let (overseer, root, pod) = (Overseer::default(), InHand::default(), InHand::default());
        let me = std::process::id();
        // What was looked at before is over.
        pod.take(&asked(5, me, PodUid::new(0), Opcode::Statfs));
        root.take(&asked(7, me, PodUid::new(0), Opcode::Getattr));
        pod.take(&asked(9, me, PodUid::new(50000), Opcode::Getattr));
        let told = Mutex::new(Vec::new());
        let answer = |looker: Looker| {
            told.lock().unwrap().push((looker.request.0, looker.look));
            // The first time there is no thread for it.
            if told.lock().unwrap().len() == 1 { Told::NotYet } else { Told::Answered { _absence: None } }
        };
        let look = || overseer.look(&device, &answer, [&root, &pod].into_iter());
        look();
        assert!(told.lock().unwrap().is_empty());
        sleep(NODE_WAITS);
        (0..3).for_each(|_| _ = look());
        assert_eq!(*told.lock().unwrap(), [(7, Look::Attributes); 2]);
    }

    #[test]
    fn a_living_caller_waits_on_and_one_that_nobody_can_see_too() {
        let (ours, kernel) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).unwrap();
        let (device, mut kernel) = (Device::from(ours), UnixStream::from(kernel));
        kernel.set_nonblocking(true).unwrap();
        let mut caller = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let (overseer, worker, unseen) = (Overseer::default(), InHand::default(), InHand::default());
        worker.take(&request(7, caller.id()));
        unseen.take(&request(9, 0));
        for _ in 0..2 {
            assert_eq!(overseer.look(&device, &nobody, [&worker, &unseen].into_iter()).at_work, 2);
            sleep(HELD_UP_AFTER);
        }
        assert!(kernel.read(&mut [0; 64]).is_err(), "nothing was answered");
        caller.kill().unwrap();
        caller.wait().unwrap();
    }
}

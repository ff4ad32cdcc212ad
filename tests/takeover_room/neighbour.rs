//! Another process, as far as locks go: a thread with a table of open files of its own, which starts empty.
//!
//! The kernel takes the table of files for the owner of a POSIX lock (fcntl(2), `current->files`), so this thread meets
//! the locks of the rest of the process as any other process does.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::who::Who;

type Question = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// Does what it is asked, one thing after the other; ends when it is dropped.
pub struct Neighbour {
    questions: Sender<Question>,
    answers: Receiver<io::Result<()>>,
}

impl Neighbour {
    /// Moves in, as `who` where that is somebody else.
    pub fn new(who: Option<Who>) -> Self {
        let (questions, asked) = channel::<Question>();
        let (answer, answers) = channel();
        thread::spawn(move || {
            who.inspect(|who| who.become_them());
            leave_open_files_behind();
            // Ends with whoever asks.
            while let Ok(question) = asked.recv() {
                let _ = answer.send(question());
            }
        });
        Self { questions, answers }
    }

    /// What `question` comes to over there.
    pub fn ask(&self, question: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
        self.questions.send(Box::new(question)).expect("the neighbour lives as long as this");
        self.answers.recv().expect("the neighbour answers")
    }
}

/// This thread goes on with a table of open files that has only the standard ones. Copies of the others would keep files
/// open, and locks held, that the rest of the process has closed.
#[allow(unsafe_code)]
fn leave_open_files_behind() {
    // SAFETY: the descriptors are closed in a table that nobody but this thread will use, and it owns none of them.
    let left = unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_UNSHARE.cast_signed()) };
    assert_eq!(left, 0, "close_range: {}", io::Error::last_os_error());
}

//! A mount from beginning to end: refuse what cannot be, build the stack, say when it answers, serve, and leave nothing.
//!
//! [`run`] tells the story. The rooms beside it: [`preflight`] refuses, [`background`] forks, [`nfs`] mounts an export,
//! [`runtime`] and [`control`] let others find the process, [`reloader`] gives it new rules, [`table`] reads the kernel's
//! mount table, [`store`] has the service manager keep what must not die, [`unmount()`], [`reload()`] and [`status()`] work from outside.
//!
//! Not here: words and options of the command line (`cli/`), the FUSE protocol (`fuse/`).

pub mod background;
pub mod claim;
mod confine;
mod connections;
pub mod control;
pub mod failure;
mod handover;
pub mod holders;
mod mounted;
pub mod nfs;
mod path_text;
pub mod patience;
pub mod preflight;
mod recipe;
pub mod record;
pub mod reload;
pub mod reloader;
mod resume;
pub mod rules;
pub mod run;
pub mod runtime;
pub mod signals;
pub mod source;
pub mod status;
mod store;
pub mod table;
mod target_lock;
pub mod unmount;
pub mod upgrade;
mod waking;
mod worker;

pub use background::{Readiness, in_background};
pub use failure::MountFailure;
pub use handover::take_over;
pub use reload::{RELOAD_PATIENCE, reload};
pub use reloader::{Complaint, Reloaded, Standing};
pub use resume::resume;
pub use rules::RulesSource;
pub use run::{Plan, run};
pub use source::Source;
pub use status::{MountStatus, State, own_namespace, status};
pub use unmount::{Unmounted, unmount};
pub use upgrade::{targets as upgrade_targets, upgrade};

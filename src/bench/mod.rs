//! `permfs bench`: the run that tells a storage admin what the layer costs on this node, with this export.
//!
//! The same work is done in the bare directory and in the mount of it, strictly in turns: a round does each row on all
//! sides, another one is first in each round, and what is told is the median of the rounds' ratios with their range. So
//! what changes slowly (a busy server, a hot CPU) meets all sides alike. `permfs bench` has one mount; `benches/mount`
//! has several, permfs and its peers.
//!
//! [`row`] lists the work, `data`, `meta`, `tree` and `parallel` do it, `ground` is the directory
//! in which it is done and which is always removed, `side` is the thread that does it under the asked ids, `sides` are all
//! of them, `rounds` conducts, `tally` keeps count, [`report`] holds what came out; `table`, `svg` and `progress` show it, [`thresholds`] judges it. What the
//! command line looks like is in `cli/`.

mod budget;
mod data;
mod ground;
mod halt;
mod meta;
mod parallel;
mod place;
mod progress;
mod random;
pub mod report;
mod rounds;
pub mod row;
mod side;
mod sides;
pub mod stats;
mod stop;
mod svg;
mod table;
mod tally;
pub mod thresholds;
mod tree;
mod units;

pub use halt::Halt;
pub use progress::Progress;
pub use report::Report;
pub use rounds::{Plan, Step, Target, run};
pub use side::Identity;
pub use stop::Stop;
pub use svg::chart;
pub use table::table;
pub use thresholds::Thresholds;

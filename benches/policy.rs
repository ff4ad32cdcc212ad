//! Nanoseconds per decision of the policy: `cargo bench --bench policy`.

mod work;

#[path = "work/timed.rs"]
mod timed;

use criterion::{Criterion, criterion_group, criterion_main};
use work::decisions;

fn decisions(criterion: &mut Criterion) {
    timed::measure(criterion, decisions::ALL, timed::Batches::Lasting);
}

criterion_group! {
    name = benches;
    config = timed::config();
    targets = decisions
}
criterion_main!(benches);

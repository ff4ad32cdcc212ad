//! Nanoseconds per operation over an export in memory: `cargo bench --bench operations`.

mod work;

#[path = "work/timed.rs"]
mod timed;

use criterion::{Criterion, criterion_group, criterion_main};
use work::operations;

fn operations(criterion: &mut Criterion) {
    timed::measure(criterion, operations::ALL, timed::Batches::Fresh);
}

criterion_group! {
    name = benches;
    config = timed::config();
    targets = operations
}
criterion_main!(benches);

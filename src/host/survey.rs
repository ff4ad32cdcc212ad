//! How all published volumes are served, by the word of their own processes. No file system is asked, so no server either.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ledger::{Entry, Record};
use super::protocol::{Service, Survey};
use super::server::Host;
use crate::mount::{self, State};

/// How many processes are asked at once. One that does not answer takes two seconds.
const AT_ONCE: usize = 16;
/// When the last of them is asked. A scrape by Prometheus has ten seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where a mount's counters have its requests, by operation.
const BY_OPERATION: &str = "by_opcode";

impl Host {
    /// Asks each volume's process. Those that are not asked in time are only counted.
    pub(super) fn survey(&self) -> Survey {
        let mut entries = self.ledger.entries();
        entries.retain(|entry| matches!(entry.record, Record::Published(_)));
        let published = entries.len();
        let end = Instant::now() + PATIENCE;
        let (left, asked) = (Mutex::new(entries.into_iter()), Mutex::new(Vec::new()));
        let next = || left.lock().ok()?.next().filter(|_| Instant::now() < end);
        thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(published) {
                scope.spawn(|| {
                    while let Some(entry) = next() {
                        let service = ask(&entry);
                        if let Ok(mut asked) = asked.lock() {
                            asked.extend(service);
                        }
                    }
                });
            }
        });
        let mut asked = asked.into_inner().unwrap_or_default();
        asked.sort_by(|one: &Service, other| one.target.cmp(&other.target));
        Survey { published, asked }
    }
}

fn ask(entry: &Entry) -> Option<Service> {
    let Record::Published(order) = &entry.record else { return None };
    let found = mount::status(Some(&order.target)).ok().and_then(|mut found| found.pop());
    let serving = found.as_ref().is_some_and(|mount| mount.state == State::Serving);
    let counters = found.map(|mount| mount.counters).unwrap_or_default();
    Some(Service {
        volume_id: order.volume_id.clone(),
        target: order.target.clone(),
        serving,
        requests: counters.get(BY_OPERATION).and_then(Value::as_object).map(numbers).unwrap_or_default(),
        counters: numbers(&counters),
    })
}

fn numbers(counters: &serde_json::Map<String, Value>) -> BTreeMap<String, u64> {
    counters.iter().filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect()
}

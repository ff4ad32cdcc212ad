//! One worker: gives each of its chores a turn, in an order that the dice choose, until it is told to stop; then every
//! chore verifies what it has left and removes it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::abilities::Abilities;
use super::chores::{ALL, Chore};
use super::desk::Desk;
use super::dice::Dice;
use super::journal::{Journal, Outcome};
use super::neighbour::Neighbour;
use super::who::Who;

/// A worker whose chores have failed this often ends.
const MOST_FAULTS: u64 = 50;

/// Which worker of which load.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub number: u64,
    pub workers: u64,
    pub seed: u64,
    pub who: Option<Who>,
    pub abilities: Abilities,
}

struct Station {
    /// None before its first turn and after a fault.
    chore: Option<Box<dyn Chore>>,
    /// How often it was begun: each beginning has a directory of its own.
    begun: u64,
}

/// Works in `directory`, which has the shared one in it, until `stop`. Becomes `part.who` for good.
pub fn work(part: Part, directory: &Path, journal: &Arc<Journal>, stop: &AtomicBool) {
    part.who.inspect(|who| who.become_them());
    let mut desk = Desk {
        number: part.number,
        seed: part.seed,
        own: directory.join(format!("worker-{}", part.number)),
        shared: directory.join("shared"),
        workers: part.workers,
        dice: Dice::of(part.seed, &[part.number]),
        journal: Arc::clone(journal),
        abilities: part.abilities,
        neighbour: Neighbour::new(part.who),
    };
    let begun = desk.make_directory(&desk.own);
    if let Err(fault) = begun {
        return journal.note(fault);
    }
    let mut stations: Vec<_> = ALL.iter().map(|_| Station { chore: None, begun: 0 }).collect();
    let mut faults = 0;
    let mut note = |outcome: Outcome| {
        let fault = outcome.err();
        let failed = fault.is_some();
        fault.into_iter().for_each(|fault| journal.note(fault));
        faults += u64::from(failed);
        failed && faults >= MOST_FAULTS
    };
    // Everything once, however short the load is.
    for (number, station) in stations.iter_mut().enumerate() {
        note(turn(station, number, &mut desk));
    }
    let total = ALL.iter().map(|(_, weight, _)| weight).sum();
    while !stop.load(Ordering::Relaxed) {
        let number = weighted(desk.dice.below(total));
        if note(turn(&mut stations[number], number, &mut desk)) {
            return;
        }
    }
    for (number, station) in stations.iter_mut().enumerate() {
        note(finish(station, number, &mut desk));
    }
    // After a fault there are leftovers, which have been told already.
    if faults == 0
        && let Err(fault) = desk.remove_directory(&desk.own)
    {
        journal.note(fault);
    }
}

fn turn(station: &mut Station, number: usize, desk: &mut Desk) -> Outcome {
    let mut chore = match station.chore.take() {
        Some(chore) => chore,
        None => begin(station, number, desk)?,
    };
    chore.turn(desk)?;
    station.chore = Some(chore);
    Ok(())
}

fn begin(station: &mut Station, number: usize, desk: &mut Desk) -> Outcome<Box<dyn Chore>> {
    let (name, _, begin) = ALL[number];
    let directory = desk.own.join(format!("{name}-{}", station.begun));
    station.begun += 1;
    desk.make_directory(&directory)?;
    begin(desk, directory)
}

fn finish(station: &mut Station, number: usize, desk: &mut Desk) -> Outcome {
    let Some(mut chore) = station.chore.take() else { return Ok(()) };
    chore.finish(desk)?;
    drop(chore);
    desk.remove_directory(&desk.own.join(format!("{}-{}", ALL[number].0, station.begun - 1)))
}

/// The chore whose share of the weights `at` falls into.
fn weighted(mut at: usize) -> usize {
    for (number, (_, weight, _)) in ALL.iter().enumerate() {
        if at < *weight {
            return number;
        }
        at -= weight;
    }
    unreachable!("below the sum of the weights")
}

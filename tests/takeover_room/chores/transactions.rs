//! Transactions in the manner of SQLite's rollback journal on one file that all workers share: lock, save the old page
//! beside it, fsync, change the file in place, fsync, remove the saved page, unlock.
//!
//! The ledger has a page per worker, each with the number of its owner's transactions, and before them one with the sum.
//! Two who hold the lock at once, or a page that is lost, make a sum that no worker's memory agrees with.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::super::desk::Desk;
use super::super::dice::Dice;
use super::super::fcntl::{Owner, lock, lock_waiting, unlock};
use super::super::journal::{Journal, Outcome, WAIT_FOR_A_LOCK};
use super::Chore;

/// The size of a page, in bytes.
const PAGE: usize = 4096;

pub struct Transactions {
    path: PathBuf,
    /// Whether this transaction's old page is saved.
    saved: PathBuf,
    file: File,
}

impl Transactions {
    pub fn new(desk: &Desk) -> Outcome<Self> {
        let path = desk.shared.join("ledger");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o664);
        let file = desk.journal.must("open", &path, || options.open(&path))?;
        Ok(Self { saved: desk.shared.join("ledger-saved"), path, file })
    }

    /// Under the lock.
    fn transact(&self, desk: &Desk) -> Outcome {
        let sum = self.page(desk, 0)?;
        let own = self.page(desk, 1 + desk.number)?;
        let saved = desk.create(&self.saved)?;
        desk.write(&saved, &self.saved, &page(desk.seed, 0, sum))?;
        desk.sync(&saved, &self.saved)?;
        desk.close(saved, &self.saved)?;
        self.write(desk, 1 + desk.number, own + 1)?;
        self.write(desk, 0, sum + 1)?;
        desk.sync(&self.file, &self.path)?;
        desk.remove(&self.saved)?;
        desk.journal.count(|counts| counts.transactions += 1);
        Ok(())
    }

    fn page(&self, desk: &Desk, number: u64) -> Outcome<u64> {
        read_page(&desk.journal, &self.file, &self.path, desk.seed, number)
    }

    fn write(&self, desk: &Desk, number: u64, count: u64) -> Outcome {
        let page = page(desk.seed, number, count);
        desk.write_at(&self.file, &self.path, &page, PAGE * usize::try_from(number).unwrap())
    }
}

impl Chore for Transactions {
    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        if desk.dice.once_in(4) {
            desk.journal.must(WAIT_FOR_A_LOCK, &self.path, || lock_waiting(&self.file, 0, 1))?;
        } else {
            let attempt = || lock(&self.file, Owner::OpenFile, 0, 1);
            if desk.journal.may("try a lock", &self.path, libc::EAGAIN, attempt)?.is_none() {
                return Ok(());
            }
        }
        let done = self.transact(desk);
        desk.journal.must("unlock", &self.path, || unlock(&self.file, Owner::OpenFile, 0, 1))?;
        done
    }

    fn finish(&mut self, _: &mut Desk) -> Outcome {
        Ok(())
    }
}

/// The sum is what all workers together remember. Removes the ledger.
pub fn verify(journal: &Journal, shared: &Path, seed: u64, workers: u64, transactions: u64) -> Outcome {
    let path = shared.join("ledger");
    let file = journal.must("open", &path, || File::open(&path))?;
    let sum = read_page(journal, &file, &path, seed, 0)?;
    journal.same("transactions on the ledger", &path, sum, transactions)?;
    let pages = (1..=workers).map(|number| read_page(journal, &file, &path, seed, number));
    let total = pages.sum::<Outcome<u64>>()?;
    journal.same("the sum of the ledger's pages", &path, total, sum)?;
    drop(file);
    journal.must("unlink", &path, || fs::remove_file(&path))
}

/// The number on a page, all of which must be as it was written; 0 where the file does not reach so far, or has a hole.
fn read_page(journal: &Journal, file: &File, path: &Path, seed: u64, number: u64) -> Outcome<u64> {
    let mut found = vec![0; PAGE];
    let offset = PAGE as u64 * number;
    let read = journal.must("pread", path, || file.read_at(&mut found, offset))?;
    found.truncate(read);
    if found.iter().all(|byte| *byte == 0) {
        return Ok(0);
    }
    let count = found.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    journal.same_bytes(&format!("page {number} of the ledger"), path, &found, &page(seed, number, count))?;
    Ok(count)
}

fn page(seed: u64, number: u64, count: u64) -> Vec<u8> {
    let mut page = count.to_le_bytes().to_vec();
    page.extend(Dice::of(seed, &[number, count]).bytes(PAGE - 8));
    page
}

//! Directory entries, packed into the answer's own buffer.
//!
//! A record is a head, the name without NUL, and padding to eight bytes; readdirplus puts what a lookup would have
//! answered before it. An entry without that answer has node id 0, which to the kernel means "look it up yourself".

use std::num::NonZeroU64;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::encode;
use super::wire::{Dirent, EntryOut, record_size};
use crate::fs::{DirEntry, DirSink, NodeId};

/// Which of the two kinds of listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// READDIR: names.
    Names,
    /// READDIRPLUS: names, each with what a lookup would have answered.
    Entries,
}

impl Listing {
    /// Bytes before the name.
    const fn head(self) -> usize {
        match self {
            Self::Names => size_of::<Dirent>(),
            Self::Entries => size_of::<EntryOut>() + size_of::<Dirent>(),
        }
    }
}

/// Packs entries into a buffer until it is full.
#[derive(Debug)]
pub(crate) struct Dirents<'a> {
    listing: Listing,
    buffer: &'a mut [u8],
    used: usize,
}

impl<'a> Dirents<'a> {
    pub(crate) fn new(listing: Listing, buffer: &'a mut [u8]) -> Self {
        Self { listing, buffer, used: 0 }
    }

    /// The records so far: whole ones, only.
    pub(crate) fn packed(&self) -> &[u8] {
        &self.buffer[..self.used]
    }

    /// Every inode that the records count a lookup of.
    pub(crate) fn counted(&self) -> impl Iterator<Item = NodeId> + '_ {
        let mut left = if self.listing == Listing::Entries { self.packed() } else { &[] };
        std::iter::from_fn(move || {
            let (entry, after) = EntryOut::read_from_prefix(left).ok()?;
            let (dirent, _) = Dirent::read_from_prefix(after).ok()?;
            let name = usize::try_from(dirent.namelen).ok()?;
            left = left.get(record_size(Listing::Entries.head() + name)..)?;
            Some(NonZeroU64::new(entry.nodeid).map(NodeId))
        })
        .flatten()
    }

    fn room(&self) -> usize {
        self.buffer.len() - self.used
    }
}

impl DirSink for Dirents<'_> {
    fn has_room(&self, name_len: usize) -> bool {
        self.listing.head().checked_add(name_len).is_some_and(|length| record_size(length) <= self.room())
    }

    fn push(&mut self, entry: &DirEntry<'_>) {
        let name = entry.name.to_bytes();
        let size = record_size(self.listing.head() + name.len());
        let Some(record) = self.buffer.get_mut(self.used..self.used + size) else {
            debug_assert!(false, "pushed without asking for room");
            return;
        };
        let dirent = Dirent {
            ino: entry.ino,
            off: entry.next,
            namelen: encode::saturate(name.len()),
            // DT_* are the S_IFMT bits, shifted down (readdir(3)); 0 is DT_UNKNOWN.
            r#type: entry.kind.map_or(0, |kind| kind.bits() >> 12),
        };
        let mut rest = record;
        let mut put = |bytes: &[u8]| {
            let (place, after) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            place.copy_from_slice(bytes);
            rest = after;
        };
        if self.listing == Listing::Entries {
            let found = entry.entry.as_ref().map_or_else(EntryOut::new_zeroed, encode::entry);
            put(found.as_bytes());
        }
        put(dirent.as_bytes());
        put(name);
        // The buffer held other answers before: nothing of them goes out with the padding.
        rest.fill(0);
        self.used += size;
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::{CStr, CString};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::fs::Entry;
    use crate::policy::{FileKind, Permissions, PodGid, PodUid, ShownAttr, Timestamp};

    fn looked_up(node: u64) -> Entry {
        let attr = ShownAttr {
            ino: node + 1000,
            kind: FileKind::Regular,
            permissions: Permissions::from_mode(0o644),
            nlink: 1,
            uid: PodUid::ROOT,
            gid: PodGid::ROOT,
            rdev: 0,
            size: 0,
            blocks: 0,
            block_size: 4096,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            btime: None,
        };
        let node = NodeId(NonZeroU64::new(node).unwrap());
        Entry { node, attr, entry_valid: Duration::ZERO, attr_valid: Duration::ZERO }
    }

    fn entry(name: &CStr, next: u64, node: Option<u64>) -> DirEntry<'_> {
        DirEntry { name, ino: 5, kind: Some(FileKind::Directory), next, entry: node.map(looked_up) }
    }

    /// What a kernel makes of the records: name, offset, type, node id.
    fn unpack(listing: Listing, mut records: &[u8]) -> Vec<(Vec<u8>, u64, u32, u64)> {
        let mut unpacked = Vec::new();
        while !records.is_empty() {
            let (plus, rest) = match listing {
                Listing::Names => (None, records),
                Listing::Entries => {
                    let (plus, rest) = EntryOut::read_from_prefix(records).unwrap();
                    (Some(plus), rest)
                }
            };
            let (dirent, rest) = Dirent::read_from_prefix(rest).unwrap();
            let length = usize::try_from(dirent.namelen).unwrap();
            let node = plus.map_or(0, |plus| plus.nodeid);
            unpacked.push((rest[..length].to_vec(), dirent.off, dirent.r#type, node));
            let size = record_size(listing.head() + length);
            assert!(records[size - (size - listing.head() - length)..size].iter().all(|&byte| byte == 0));
            records = &records[size..];
        }
        unpacked
    }

    #[test]
    fn a_name_that_is_not_looked_up_has_no_node_and_counts_nothing() {
        let mut buffer = vec![0xff; 4096];
        let mut sink = Dirents::new(Listing::Entries, &mut buffer);
        sink.push(&entry(c".", 1, None));
        sink.push(&entry(c"..", 2, None));
        sink.push(&entry(c"file", 3, Some(7)));
        sink.push(&entry(c"broken", 4, None));
        sink.push(&entry(c"other", 5, Some(8)));
        let counted: Vec<u64> = sink.counted().map(|node| node.0.get()).collect();
        assert_eq!(counted, [7, 8]);
        let names = unpack(Listing::Entries, sink.packed());
        assert_eq!(names[0], (b".".to_vec(), 1, 4, 0));
        assert_eq!(names[2], (b"file".to_vec(), 3, 4, 7));
    }

    #[test]
    fn a_plain_listing_counts_nothing() {
        let mut buffer = vec![0xff; 4096];
        let mut sink = Dirents::new(Listing::Names, &mut buffer);
        sink.push(&entry(c"a", u64::MAX, Some(7)));
        assert_eq!(sink.counted().count(), 0);
        assert_eq!(unpack(Listing::Names, sink.packed()), [(b"a".to_vec(), u64::MAX, 4, 0)]);
    }

    proptest! {
        #[test]
        fn what_fits_goes_in_whole_and_nothing_goes_past_the_end(
            capacity in 0usize..2048,
            plus: bool,
            names in prop::collection::vec("[^\0]{1,255}", 0..40),
        ) {
            let listing = if plus { Listing::Entries } else { Listing::Names };
            let mut buffer = vec![0xff; capacity];
            let mut sink = Dirents::new(listing, &mut buffer);
            let mut taken = Vec::new();
            for name in &names {
                let name = CString::new(name.as_bytes()).unwrap();
                if !sink.has_room(name.count_bytes()) {
                    break;
                }
                let number = u64::try_from(taken.len()).unwrap() + 1;
                sink.push(&entry(&name, number, Some(number)));
                taken.push((name.into_bytes(), number));
            }
            let packed = sink.packed();
            prop_assert!(packed.len() <= capacity);
            prop_assert_eq!(packed.len() % 8, 0);
            let expected: Vec<_> =
                taken.iter().map(|(name, n)| (name.clone(), *n, 4, if plus { *n } else { 0 })).collect();
            prop_assert_eq!(unpack(listing, packed), expected);
            prop_assert_eq!(sink.counted().count(), if plus { taken.len() } else { 0 });
        }
    }
}

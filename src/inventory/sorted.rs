//! Listed objects by partition and offset, whatever their number: a buffer of fixed size, sorted
//! runs in a temporary file without a name, and a merge of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::landing::protocol::keys::NamedRange;
use crate::store::Listed;

/// Objects in memory at a time: about 12 MiB with keys of 130 bytes. A bucket with fewer needs no
/// file.
pub const BUFFERED_MAX: usize = 50_000;
/// More runs than this are merged into one: each is read through a buffer of [`READ_BYTES`].
const RUNS_MAX: usize = 64;
/// A hundred objects; and a key of S3's longest fits many times.
const READ_BYTES: usize = 16 * 1024;

/// A listed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What its name says; `None`: it is not one of the topic's names.
    pub name: Option<NamedRange>,
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was last written, milliseconds since 1970 UTC.
    pub modified_ms: i64,
}

impl Entry {
    /// Of a listing, with what its name says.
    pub fn new(listed: Listed, name: Option<NamedRange>) -> Self {
        Self {
            name,
            key: listed.key,
            size_bytes: listed.size_bytes,
            modified_ms: listed.modified_ms,
        }
    }

    /// What has none of the topic's names comes last.
    fn order(&self) -> (bool, i32, i64, i64, &str) {
        match self.name {
            Some(name) => (false, name.partition, name.first, name.last, &self.key),
            None => (true, 0, 0, 0, &self.key),
        }
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (is_other, partition, first, last, _) = self.order();
        to.write_all(&[u8::from(is_other)])?;
        to.write_all(&partition.to_le_bytes())?;
        to.write_all(&first.to_le_bytes())?;
        to.write_all(&last.to_le_bytes())?;
        to.write_all(&self.size_bytes.to_le_bytes())?;
        to.write_all(&self.modified_ms.to_le_bytes())?;
        to.write_all(&(self.key.len() as u32).to_le_bytes())?;
        to.write_all(self.key.as_bytes())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

/// Takes objects in any order.
#[derive(Debug)]
pub struct Sorter {
    buffered_max: usize,
    buffer: Vec<Entry>,
    /// The file and the runs in it.
    spilled: Option<Spilled>,
    count: u64,
}

#[derive(Debug)]
struct Spilled {
    file: Arc<File>,
    /// Where each run begins and ends.
    runs: Vec<(u64, u64)>,
    end: u64,
}

/// Gives them in order.
#[derive(Debug)]
pub struct Sorted {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
    failed: Option<io::Error>,
}

#[derive(Debug)]
enum Run {
    Memory(std::vec::IntoIter<Entry>),
    File(RunReader),
}

#[derive(Debug)]
struct RunReader {
    file: Arc<File>,
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    read: usize,
}

impl Default for Sorter {
    fn default() -> Self {
        Self::with_buffer(BUFFERED_MAX)
    }
}

impl Sorter {
    /// With room for so many objects in memory.
    fn with_buffer(buffered_max: usize) -> Self {
        Self {
            buffered_max,
            buffer: Vec::new(),
            spilled: None,
            count: 0,
        }
    }

    /// Adds an object.
    ///
    /// # Errors
    /// When the temporary file cannot be written.
    pub fn push(&mut self, entry: Entry) -> io::Result<()> {
        self.buffer.push(entry);
        self.count += 1;
        if self.buffer.len() >= self.buffered_max {
            self.spill()?;
        }
        Ok(())
    }

    /// How many objects it was given.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All of them in order.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub fn finish(mut self) -> io::Result<Sorted> {
        self.buffer.sort_unstable();
        let mut runs = vec![Run::Memory(std::mem::take(&mut self.buffer).into_iter())];
        runs.extend(self.spilled.iter().flat_map(Spilled::readers));
        Sorted::new(runs)
    }

    fn spill(&mut self) -> io::Result<()> {
        self.buffer.sort_unstable();
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert(Spilled::new()?),
        };
        spilled.add(self.buffer.drain(..).map(Ok))?;
        if spilled.runs.len() >= RUNS_MAX {
            let mut merged = Spilled::new()?;
            merged.add(Sorted::new(spilled.readers().collect())?)?;
            *spilled = merged;
        }
        Ok(())
    }
}

impl Spilled {
    fn new() -> io::Result<Self> {
        Ok(Self {
            file: Arc::new(tempfile::tempfile()?),
            runs: Vec::new(),
            end: 0,
        })
    }

    fn add(&mut self, entries: impl Iterator<Item = io::Result<Entry>>) -> io::Result<()> {
        let mut writer = BufWriter::new(At {
            file: &self.file,
            at: self.end,
        });
        for entry in entries {
            entry?.write(&mut writer)?;
        }
        let end = writer.into_inner()?.at;
        self.runs.push((self.end, end));
        self.end = end;
        Ok(())
    }

    fn readers(&self) -> impl Iterator<Item = Run> {
        self.runs.iter().map(|&(at, end)| {
            Run::File(RunReader {
                file: self.file.clone(),
                at,
                end,
                buffer: Vec::new(),
                read: 0,
            })
        })
    }
}

struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Run {
    fn next(&mut self) -> io::Result<Option<Entry>> {
        match self {
            Run::Memory(entries) => Ok(entries.next()),
            Run::File(reader) => reader.next(),
        }
    }
}

impl RunReader {
    fn next(&mut self) -> io::Result<Option<Entry>> {
        if self.read == self.buffer.len() && self.at == self.end {
            return Ok(None);
        }
        let is_other = self.number::<1>()?[0] != 0;
        let name = NamedRange {
            partition: i32::from_le_bytes(self.number()?),
            first: i64::from_le_bytes(self.number()?),
            last: i64::from_le_bytes(self.number()?),
        };
        let size_bytes = u64::from_le_bytes(self.number()?);
        let modified_ms = i64::from_le_bytes(self.number()?);
        let length = u32::from_le_bytes(self.number()?) as usize;
        self.fill(length)?;
        let key = self.buffer[self.read..self.read + length].to_vec();
        self.read += length;
        Ok(Some(Entry {
            name: (!is_other).then_some(name),
            key: String::from_utf8(key).map_err(io::Error::other)?,
            size_bytes,
            modified_ms,
        }))
    }

    fn number<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.fill(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.buffer[self.read..self.read + N]);
        self.read += N;
        Ok(bytes)
    }

    /// Sees to it that so many bytes are in the buffer.
    fn fill(&mut self, length: usize) -> io::Result<()> {
        if self.buffer.len() - self.read >= length {
            return Ok(());
        }
        self.buffer.drain(..self.read);
        self.read = 0;
        let had = self.buffer.len();
        let more = (self.end - self.at).min(READ_BYTES.max(length) as u64) as usize;
        self.buffer.resize(had + more, 0);
        self.file.read_exact_at(&mut self.buffer[had..], self.at)?;
        self.at += more as u64;
        match self.buffer.len() >= length {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Sorted {
    fn new(runs: Vec<Run>) -> io::Result<Self> {
        let mut sorted = Self {
            heads: BinaryHeap::with_capacity(runs.len()),
            runs,
            failed: None,
        };
        for index in 0..sorted.runs.len() {
            sorted.advance(index)?;
        }
        Ok(sorted)
    }

    fn advance(&mut self, index: usize) -> io::Result<()> {
        if let Some(entry) = self.runs[index].next()? {
            self.heads.push(Reverse((entry, index)));
        }
        Ok(())
    }
}

impl Iterator for Sorted {
    type Item = io::Result<Entry>;

    /// After an error there is nothing.
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            self.heads.clear();
            return Some(Err(error));
        }
        let Reverse((entry, index)) = self.heads.pop()?;
        if let Err(error) = self.advance(index) {
            self.failed = Some(error);
        }
        Some(Ok(entry))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(number: u64) -> Entry {
        let name = (!number.is_multiple_of(7)).then_some(NamedRange {
            partition: (number % 3) as i32,
            first: (number % 11) as i64,
            last: (number % 13) as i64,
        });
        Entry {
            name,
            key: format!("{}{}", "k".repeat((number % 900) as usize), number % 5),
            size_bytes: number,
            modified_ms: -1,
        }
    }

    proptest! {
        /// Through memory alone, through a few runs, and through runs that were merged.
        #[test]
        fn what_is_put_in_comes_out_in_order(
            numbers in prop::collection::vec(any::<u64>(), 0..300),
            buffered_max in 1usize..100,
        ) {
            let mut sorter = Sorter::with_buffer(buffered_max);
            let mut expected: Vec<Entry> = numbers.into_iter().map(entry).collect();
            for entry in &expected {
                sorter.push(entry.clone()).unwrap();
            }
            prop_assert_eq!(sorter.count(), expected.len() as u64);
            let sorted: Vec<Entry> = sorter.finish().unwrap().map(Result::unwrap).collect();
            prop_assert!(sorted.is_sorted());
            let by_all = |entry: &Entry| (entry.key.clone(), entry.size_bytes, entry.name.map(|name| (name.partition, name.first, name.last)));
            expected.sort_unstable_by_key(by_all);
            let mut found = sorted;
            found.sort_unstable_by_key(by_all);
            prop_assert_eq!(found, expected);
        }
    }
}

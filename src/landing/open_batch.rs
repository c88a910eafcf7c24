//! A batch that is being filled: rows go into the file of their folder, rejects wait for the end.
//! Pure but for the clock that comes in with the blocks; it runs on a thread for CPU work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use bytes::Bytes;

use crate::budget::Grant;
use crate::landing::claims::{Holding, Purpose};
use crate::landing::folders::{self, FolderKey, RowFolders};
use crate::landing::layout::Layout;
use crate::landing::offsets::OffsetSet;
use crate::landing::parquet_file::{
    Codec, DEAD_LETTERS_OFFSET_COLUMN, FileWriter, ParquetFileError, append_offsets,
    dead_letter_rows, dead_letters_schema, fingerprint, offsets_of,
};
use crate::landing::protocol::checkpoint::LastRecord;
use crate::landing::protocol::footer::{BatchFooter, Footer};
use crate::landing::protocol::keys::Names;
use crate::messages::{Batch, BatchFile, BlockEnd, Cause, ClaimId, Reject, RowBlock};
use crate::status::{Open, now_ms};

/// Data objects of a batch: with the dead letters an upload is at most 64 requests one after
/// another, and a checkpoint with all keys stays small.
pub const FOLDERS_MAX: usize = 63;

/// What a batch holds at least of the budget: its bookkeeping is not free, and batches that queue
/// while the store is away must be limited too.
const BATCH_BYTES_MIN: u64 = 64 * 1024;

/// When and how a batch is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Records of a batch, rejects included.
    pub max_rows: u64,
    /// Encoded bytes of a batch.
    pub max_bytes: u64,
    /// Age of a batch since its first record was read.
    pub max_age: Duration,
    /// How its files are encoded.
    pub codec: Codec,
    /// How its objects are named.
    pub names: Names,
}

/// Why a batch was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// `max_rows`
    Rows,
    /// `max_bytes`
    Bytes,
    /// It would need more than [`FOLDERS_MAX`] folders.
    Folders,
    /// `max_age`
    Age,
    /// Its claim ends.
    Claim,
    /// The budget is used up.
    Memory,
}

impl CloseReason {
    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::Rows => "rows",
            CloseReason::Bytes => "bytes",
            CloseReason::Folders => "folders",
            CloseReason::Age => "age",
            CloseReason::Claim => "claim",
            CloseReason::Memory => "memory",
        }
    }
}

/// A batch that is being filled.
#[derive(Debug)]
pub struct OpenBatch {
    claim: ClaimId,
    holding: Holding,
    layout: Arc<Layout>,
    start: i64,
    position: i64,
    /// When its first record was read; `None`: it holds none.
    read_at: Option<Instant>,
    /// Since when the position has moved over holes alone.
    holes_since: Option<Instant>,
    read: OffsetSet,
    last: Option<LastRecord>,
    files: BTreeMap<FolderKey, FileWriter>,
    rejects: Vec<Reject>,
    grant: Grant,
}

/// What a block of rows came to.
#[derive(Debug)]
pub struct Absorbed {
    /// Batches that it filled, in order.
    pub closed: Vec<(CloseReason, Batch)>,
    /// The batch that is open behind it.
    pub open: Option<OpenBatch>,
}

impl OpenBatch {
    /// An empty batch that begins at `start`.
    pub fn new(
        claim: ClaimId,
        holding: Holding,
        layout: Arc<Layout>,
        start: i64,
        grant: Grant,
    ) -> Self {
        Self {
            claim,
            holding,
            layout,
            start,
            position: start,
            read_at: None,
            holes_since: None,
            read: OffsetSet::default(),
            last: None,
            files: BTreeMap::new(),
            rejects: Vec::new(),
            grant,
        }
    }

    /// Whose records these are.
    pub fn claim(&self) -> ClaimId {
        self.claim
    }

    /// Whether it is a range that is read again, which nothing cuts.
    pub fn is_replay(&self) -> bool {
        matches!(self.holding.purpose, Purpose::Replay(_))
    }

    /// Bytes of memory that it holds.
    pub fn memory_bytes(&self) -> u64 {
        let files: u64 = self.files.values().map(FileWriter::memory_bytes).sum();
        let rejects: usize = self.rejects.iter().map(reject_bytes).sum();
        files + rejects as u64
    }

    /// What it holds, to be shown; `None`: no record.
    pub fn shown(&self) -> Option<Open> {
        let age_ms = self.read_at?.elapsed().as_millis();
        Some(Open {
            rows: self.read.len(),
            bytes: self.encoded_bytes(),
            since_ms: now_ms().saturating_sub(i64::try_from(age_ms).unwrap_or(i64::MAX)),
        })
    }

    /// Whether it holds a record.
    pub fn has_records(&self) -> bool {
        self.read_at.is_some()
    }

    /// Whether its first record was read so long ago.
    pub fn is_due(&self, max_age: Duration, now: Instant) -> bool {
        !self.is_replay()
            && self
                .read_at
                .is_some_and(|read_at| now.duration_since(read_at) >= max_age)
    }

    /// Where holes alone reach, once they have been all there was for so long.
    pub fn holes_due(&self, max_age: Duration, now: Instant) -> Option<i64> {
        let since = self
            .holes_since
            .filter(|_| !self.has_records() && !self.is_replay())?;
        (now.duration_since(since) >= max_age).then_some(self.position)
    }

    /// The holes up to the position are known to the checkpoint; the batch still begins where it
    /// did.
    pub fn holes_noted(&mut self) {
        self.holes_since = None;
    }

    /// Takes a block: fills this batch, closes it and begins the next as often as its limits say.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn absorb(
        mut self,
        mut block: RowBlock,
        rotation: &Rotation,
    ) -> Result<Absorbed, ParquetFileError> {
        let mut closed = Vec::new();
        self.grant.merge(block.grant.split(u64::MAX));
        let position = block.position;
        let ends = block.end == BlockEnd::Close;
        let mut rest = Some(Part::whole(block));
        while let Some(part) = rest.take() {
            let (head, tail, folders_full) = self.fitting(part, rotation)?;
            self.take(head, rotation)?;
            rest = tail;
            if rest.is_none() {
                self.position = self.position.max(position);
            }
            let reason = match () {
                () if self.is_replay() => None,
                () if folders_full => Some(CloseReason::Folders),
                () if self.read.len() >= rotation.max_rows => Some(CloseReason::Rows),
                () if self.encoded_bytes() >= rotation.max_bytes => Some(CloseReason::Bytes),
                () => None,
            };
            if let Some(reason) = reason {
                let next = self.successor();
                closed.push((
                    reason,
                    std::mem::replace(&mut self, next).close(rotation, false)?,
                ));
            }
        }
        if ends {
            closed.push((CloseReason::Claim, self.close(rotation, true)?));
            return Ok(Absorbed { closed, open: None });
        }
        let memory_bytes = self.memory_bytes();
        self.grant.resize(memory_bytes);
        Ok(Absorbed {
            closed,
            open: Some(self),
        })
    }

    /// The finished batch. Without records it has no keys.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn close(
        mut self,
        rotation: &Rotation,
        closes_claim: bool,
    ) -> Result<Batch, ParquetFileError> {
        let (start, end, keys, lost) = self.listed(rotation);
        let batch = BatchFooter {
            start,
            end,
            keys: keys.clone(),
            layout: (*self.layout).clone(),
            offsets: self.read.digest(),
        };
        let footers = Footers {
            identity: &self.holding,
            batch,
            gap: lost,
        };
        let partition_by = self.layout.partition_by.clone();
        // A replay's keys may lie in a data folder that the configuration no longer names: only
        // what lies below it is compared.
        let mut by_name: Vec<(String, FileWriter)> = std::mem::take(&mut self.files)
            .into_iter()
            .map(|(key, file)| {
                let names = &rotation.names;
                let folder = folders::name(&partition_by, key);
                let mut name = names.data_file(&folder, self.claim.partition, start, end);
                (name.split_off(names.data.len()), file)
            })
            .collect();
        let mut data = Vec::new();
        for key in keys.iter().take(keys.len().saturating_sub(1)) {
            let file = match by_name.iter().position(|(name, _)| key.ends_with(name)) {
                Some(index) => by_name.swap_remove(index).1,
                None => new_data_file(&self.layout, rotation.codec)?,
            };
            data.push(footers.finish(file, &self.layout.schema(), false)?);
        }
        let dead_letters = match self.rejects.is_empty() {
            true => None,
            false => Some(footers.dead_letters(&self.rejects, rotation.codec)?),
        };
        let held = data
            .iter()
            .chain(&dead_letters)
            .map(|file| file.body.len() as u64)
            .sum::<u64>();
        self.grant.resize(held.max(BATCH_BYTES_MIN));
        Ok(Batch {
            claim: self.claim,
            layout: self.layout,
            start,
            end,
            read_at: self.read_at.unwrap_or_else(Instant::now),
            read: self.read,
            last: self.last,
            keys,
            data,
            dead_letters,
            causes: causes(&self.rejects),
            closes_claim,
            in_flight: Arc::default(),
            grant: self.grant,
        })
    }

    /// Range and keys: a replay's are pinned, a fresh batch ends at the position, holes included.
    fn listed(&self, rotation: &Rotation) -> (i64, i64, Vec<String>, Option<[i64; 2]>) {
        let (start, end) = (self.start, self.position);
        match &self.holding.purpose {
            Purpose::Replay(replay) => (
                replay.start,
                replay.pending.end,
                replay.pending.keys.clone(),
                replay.lost,
            ),
            Purpose::Land { .. } if !self.has_records() => (start, end, Vec::new(), None),
            Purpose::Land { .. } => {
                let partition = self.claim.partition;
                let mut keys: Vec<String> = self
                    .files
                    .keys()
                    .map(|key| folders::name(&self.layout.partition_by, *key))
                    .map(|folder| rotation.names.data_file(&folder, partition, start, end))
                    .collect();
                keys.sort_unstable();
                keys.push(rotation.names.dead_letters_file(partition, start, end));
                (start, end, keys, None)
            }
        }
    }

    /// Splits a part into what still fits and the rest; says whether the folders were the limit.
    fn fitting(
        &self,
        part: Part,
        rotation: &Rotation,
    ) -> Result<(Part, Option<Part>, bool), ParquetFileError> {
        if self.is_replay() {
            return Ok((part, None, false));
        }
        let room = rotation.max_rows.saturating_sub(self.read.len());
        let (head, tail) = match part.offset_after(room)? {
            Some(cut) => {
                let (head, tail) = part.split_at(cut)?;
                (head, Some(tail))
            }
            None => (part, None),
        };
        let Some(cut) = self.first_row_without_folder(&head)? else {
            return Ok((head, tail, false));
        };
        let (head, mut rest) = head.split_at(cut)?;
        if let Some(tail) = tail {
            rest.append(tail)?;
        }
        Ok((head, Some(rest), true))
    }

    /// Offset of the first row whose folder would be one too many.
    fn first_row_without_folder(&self, part: &Part) -> Result<Option<i64>, ParquetFileError> {
        let keys = match part.folders(&self.layout) {
            RowFolders::One(key) => vec![key; part.rows.num_rows().min(1)],
            RowFolders::Many(keys) => keys,
        };
        let mut known: std::collections::BTreeSet<FolderKey> = self.files.keys().copied().collect();
        let offsets = offsets_of(&part.rows, self.layout.offset_column())?;
        for (key, offset) in keys.iter().zip(offsets) {
            if known.insert(*key) && known.len() > FOLDERS_MAX {
                return Ok(Some(*offset));
            }
        }
        Ok(None)
    }

    fn take(&mut self, part: Part, rotation: &Rotation) -> Result<(), ParquetFileError> {
        let offsets = offsets_of(&part.rows, self.layout.offset_column())?;
        let (Some(last), false) = (part.last_offset()?, part.is_empty()) else {
            self.holes_since.get_or_insert(part.read_at);
            return Ok(());
        };
        self.position = last + 1;
        self.read_at.get_or_insert(part.read_at);
        self.holes_since = None;
        if part.rejects.is_empty() {
            append_offsets(&mut self.read, offsets);
        } else {
            let mut rows = OffsetSet::default();
            append_offsets(&mut rows, offsets);
            let rejects = part.rejects.iter().map(|reject| reject.offset).collect();
            self.read = self.read.union(&rows).union(&rejects);
        }
        self.last = part.last.or(self.last);
        match part.folders(&self.layout) {
            _ if part.rows.num_rows() == 0 => {}
            RowFolders::One(key) => self.file(key, rotation)?.push(part.rows)?,
            RowFolders::Many(keys) => {
                let distinct: std::collections::BTreeSet<FolderKey> =
                    keys.iter().copied().collect();
                for folder in distinct {
                    let mask: BooleanArray = keys.iter().map(|key| Some(*key == folder)).collect();
                    let rows = filter_record_batch(&part.rows, &mask)?;
                    self.file(folder, rotation)?.push(rows)?;
                }
            }
        }
        self.rejects.extend(part.rejects);
        Ok(())
    }

    fn file(
        &mut self,
        key: FolderKey,
        rotation: &Rotation,
    ) -> Result<&mut FileWriter, ParquetFileError> {
        use std::collections::btree_map::Entry;
        Ok(match self.files.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(new_data_file(&self.layout, rotation.codec)?),
        })
    }

    fn encoded_bytes(&self) -> u64 {
        let rejects: usize = self.rejects.iter().map(reject_bytes).sum();
        self.files
            .values()
            .map(FileWriter::encoded_bytes)
            .sum::<u64>()
            + rejects as u64
    }

    /// The batch behind this one, which takes over what is still held for the rest of the block.
    fn successor(&mut self) -> Self {
        let bytes = self.grant.bytes().saturating_sub(self.memory_bytes());
        let grant = self.grant.split(bytes);
        Self::new(
            self.claim,
            self.holding.clone(),
            self.layout.clone(),
            self.position,
            grant,
        )
    }
}

/// Makes the footers of a batch's files.
struct Footers<'a> {
    identity: &'a Holding,
    batch: BatchFooter,
    gap: Option<[i64; 2]>,
}

impl Footers<'_> {
    fn finish(
        &self,
        file: FileWriter,
        schema: &arrow::datatypes::Schema,
        is_dead_letters: bool,
    ) -> Result<BatchFile, ParquetFileError> {
        let offsets = file.offsets().clone();
        let footer = Footer::new(
            (*self.identity.identity).clone(),
            fingerprint(schema),
            offsets.digest(),
            is_dead_letters,
            self.gap,
            self.batch.clone(),
        );
        let body = file.finish(&footer)?;
        Ok(BatchFile { offsets, body })
    }

    fn dead_letters(
        &self,
        rejects: &[Reject],
        codec: Codec,
    ) -> Result<BatchFile, ParquetFileError> {
        let schema = dead_letters_schema();
        let mut file = FileWriter::new(schema.clone(), DEAD_LETTERS_OFFSET_COLUMN, codec)?;
        let identity = &self.identity.identity;
        file.push(dead_letter_rows(
            &identity.topic,
            identity.partition,
            rejects,
        )?)?;
        self.finish(file, &schema, true)
    }
}

/// Rows and rejects of one block, or of a piece of it.
struct Part {
    rows: RecordBatch,
    rejects: Vec<Reject>,
    last: Option<LastRecord>,
    read_at: Instant,
    layout: Arc<Layout>,
}

impl Part {
    fn whole(block: RowBlock) -> Self {
        Self {
            rows: block.rows,
            rejects: block.rejects,
            last: block.last,
            read_at: block.read_at,
            layout: block.layout,
        }
    }

    fn offset_column(&self) -> usize {
        self.layout.offset_column()
    }

    fn is_empty(&self) -> bool {
        self.rows.num_rows() == 0 && self.rejects.is_empty()
    }

    fn last_offset(&self) -> Result<Option<i64>, ParquetFileError> {
        let row = offsets_of(&self.rows, self.offset_column())?
            .last()
            .copied();
        Ok(row.max(self.rejects.last().map(|reject| reject.offset)))
    }

    /// The offset at which to cut so that exactly `count` records come before; `None`: there are
    /// no more than that.
    fn offset_after(&self, count: u64) -> Result<Option<i64>, ParquetFileError> {
        let rows = offsets_of(&self.rows, self.offset_column())?;
        if (rows.len() + self.rejects.len()) as u64 <= count {
            return Ok(None);
        }
        let mut offsets: Vec<i64> = rows
            .iter()
            .copied()
            .chain(self.rejects.iter().map(|reject| reject.offset))
            .collect();
        offsets.sort_unstable();
        Ok(offsets.get(count as usize).copied())
    }

    /// What lies before the offset, and what lies at or behind it. The last record stays with the
    /// second piece: the first one's is not needed, since its batch is followed by the other's.
    fn split_at(mut self, offset: i64) -> Result<(Self, Self), ParquetFileError> {
        let rows =
            offsets_of(&self.rows, self.offset_column())?.partition_point(|known| *known < offset);
        let rejects = self
            .rejects
            .partition_point(|reject| reject.offset < offset);
        let tail = Self {
            rows: self.rows.slice(rows, self.rows.num_rows() - rows),
            rejects: self.rejects.split_off(rejects),
            last: self.last.take(),
            read_at: self.read_at,
            layout: self.layout.clone(),
        };
        self.rows = self.rows.slice(0, rows);
        Ok((self, tail))
    }

    fn append(&mut self, tail: Self) -> Result<(), ParquetFileError> {
        self.rows = arrow::compute::concat_batches(&self.rows.schema(), [&self.rows, &tail.rows])?;
        self.rejects.extend(tail.rejects);
        self.last = tail.last;
        Ok(())
    }

    fn folders(&self, layout: &Layout) -> RowFolders {
        let times = self.rows.column(layout.partition_time_column()).as_any();
        match times.downcast_ref::<TimestampMicrosecondArray>() {
            Some(times) => folders::keys_of_rows(&layout.partition_by, times),
            None => RowFolders::One(None),
        }
    }
}

/// An empty data file of a layout.
///
/// # Errors
/// When the schema cannot be written as Parquet.
pub fn new_data_file(layout: &Layout, codec: Codec) -> Result<FileWriter, ParquetFileError> {
    FileWriter::new(layout.schema(), layout.offset_column(), codec)
}

fn causes(rejects: &[Reject]) -> Vec<(Cause, u64)> {
    let mut counts: BTreeMap<Cause, u64> = BTreeMap::new();
    rejects
        .iter()
        .for_each(|reject| *counts.entry(reject.cause).or_default() += 1);
    counts.into_iter().collect()
}

fn reject_bytes(reject: &Reject) -> usize {
    let bytes = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
    let headers: usize = reject
        .headers
        .iter()
        .map(|(name, value)| name.len() + bytes(value))
        .sum();
    size_of::<Reject>() + bytes(&reject.key) + bytes(&reject.value) + headers + reject.detail.len()
}

#[cfg(test)]
mod tests;

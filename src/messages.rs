//! Every message between actors, in the order of the data. They are nouns that name the state of
//! the data; offsets travel inside them, so that no stage keeps a second account.
//!
//! Data goes by `send`, and its reply is awaited: that is the backpressure. A stage replies when
//! it has taken a message and works on it before it takes the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{MailboxError, Message};
use arrow::array::RecordBatch;
use bytes::Bytes;

use crate::budget::Grant;
use crate::fault::{self, Step};
use crate::landing::layout::Layout;
use crate::landing::offsets::OffsetSet;
use crate::landing::protocol::batch::Intent;
use crate::landing::protocol::checkpoint::LastRecord;
use crate::landing::protocol::upload::UpsetReason;

/// One answer of the source, as received: poller to publisher. The reply says whether the
/// publisher holds it; [`Held::Full`] tells the poller to wait and offer it again.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Held")]
pub struct Sample {
    /// The body, byte for byte.
    pub body: Bytes,
    /// When the answer was complete, milliseconds since 1970 UTC.
    pub fetched_at_ms: i64,
    /// The address that was asked, without credentials.
    pub source: Arc<str>,
    /// The answer's `Date` header.
    pub http_date: Option<String>,
    /// The answer's `Content-Type` header.
    pub content_type: Option<String>,
}

/// The publisher's answer to a [`Sample`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It is held until Kafka has it.
    Yes,
    /// The limit is reached: offer it again later.
    Full,
}

/// A partition as one claim holds it. Every message from the claim on carries it, and stages drop
/// any whose epoch is not their newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimId {
    /// The partition's number.
    pub partition: i32,
    /// The epoch that the claim swapped into the checkpoint.
    pub epoch: u64,
}

/// Asks for a partition that was assigned: subscriber to checkpoint. Answered when it can be read,
/// which takes as long as Kafka and the store take.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ClaimAnswer")]
pub struct Claim {
    /// The partition's number.
    pub partition: i32,
}

/// Where to start.
#[derive(Debug, Clone)]
pub enum ClaimAnswer {
    /// Read on from here, by the configured layout.
    Land {
        /// The claim.
        claim: ClaimId,
        /// The next offset to read.
        from: i64,
    },
    /// Read exactly this range again and close it with [`BlockEnd::Close`] at `end`; then wait for
    /// a [`Command::Start`].
    Replay {
        /// The claim.
        claim: ClaimId,
        /// First offset that can still be read.
        from: i64,
        /// Behind the last offset of the range.
        end: i64,
        /// The pinned layout.
        layout: Arc<Layout>,
        /// See [`RecordBlock::forced`].
        forced: Arc<OffsetSet>,
    },
    /// It stopped, and its state says why; claim it again after [`STOPPED_RECHECK`].
    Stopped {
        /// The partition's number.
        partition: i32,
    },
    /// It was released meanwhile, or another writer was faster: nothing to do until the next
    /// assignment or [`Command::Reclaim`].
    Dropped,
}

/// A stopped partition is looked at again so often: mending it is a person's work of minutes, and
/// each look costs a few requests.
pub const STOPPED_RECHECK: Duration = Duration::from_secs(300);

/// Partitions taken away: subscriber to checkpoint. Their claims end at once.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Release {
    /// The partitions' numbers.
    pub partitions: Vec<i32>,
}

/// An offset that cannot be read for `backoff_max`: subscriber to checkpoint. What was read
/// before it goes ahead as a block with [`BlockEnd::Close`]; the partition waits for
/// [`Command::Reclaim`].
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Unreadable {
    /// The claim.
    pub claim: ClaimId,
    /// What is damaged.
    pub damage: Damage,
}

/// A place of a partition's log that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The next offset to read, which cannot be.
    pub offset: i64,
    /// The first offset behind it that could be read, if any was.
    pub readable: Option<i64>,
    /// In librdkafka's words.
    pub error: String,
}

/// What the consumer's thread is told, by the subscriber, by the checkpoint actor and by the watch
/// over what stands still.
#[derive(Debug)]
pub enum Command {
    /// Begin to read a partition, or go on behind a replay that has landed.
    Start(ClaimAnswer),
    /// Commit an offset to Kafka: a courtesy to tools that show lag.
    Commit {
        /// The partition's number.
        partition: i32,
        /// The next offset to read.
        offset: i64,
    },
    /// The claim has ended (another writer was faster, or Kafka and the checkpoint disagree):
    /// while the partition is still assigned, claim it again after so long.
    Reclaim {
        /// The claim that ended.
        claim: ClaimId,
        /// How long to wait first.
        after: Duration,
    },
    /// A partition whose reading stands still was asked for its next offset, and it is damaged.
    Damaged {
        /// The partition's number.
        partition: i32,
        /// What is damaged.
        damage: Damage,
    },
    /// Close what is open, pass it on, and take nothing more. Offsets can still be committed.
    Drain,
    /// Leave the group and end.
    Leave,
}

/// The way to the consumer's thread. It never blocks: what is in it is limited by the number of
/// partitions, of which each has at most a few commands under way.
pub type Commands = std::sync::mpsc::Sender<Command>;

/// The same for actors: each command is a step.
#[derive(Debug, Clone)]
pub struct CommandWay(Commands);

/// The consumer's thread, or the subscriber, is gone: the generation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other end is gone")]
pub struct Gone;

impl From<MailboxError> for Gone {
    fn from(_: MailboxError) -> Self {
        Self
    }
}

impl From<Commands> for CommandWay {
    fn from(commands: Commands) -> Self {
        Self(commands)
    }
}

impl CommandWay {
    /// Tells the thread.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn send(&self, command: Command) -> Result<(), Gone> {
        let tell = |command| std::future::ready(self.0.send(command).map_err(|_| Gone));
        fault::within(command.step(), || tell(command)).await
    }
}

impl Command {
    fn step(&self) -> Step {
        match self {
            Self::Start(_) => Step::HandAnswer,
            Self::Commit { .. } | Self::Reclaim { .. } | Self::Damaged { .. } => Step::HandCommand,
            Self::Drain => Step::TellDrain,
            Self::Leave => Step::TellLeave,
        }
    }
}

/// What the accumulator does once it has taken a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockEnd {
    /// More of this claim follows.
    More,
    /// Close the batch at this block's position and land it: a drain, a revoke, the end of a
    /// replay, a disagreement with Kafka. Nothing of this claim follows.
    Close,
}

/// Records of one partition with rising offsets (holes allowed): subscriber to flattener.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RecordBlock {
    /// Whose records these are.
    pub claim: ClaimId,
    /// How they become rows: the configured layout, or the pinned one of a replay.
    pub layout: Arc<Layout>,
    /// Offsets that a replay must place among the dead letters, whatever the decoder says; empty
    /// for anything but a replay that follows one whose objects could not hold them.
    pub forced: Arc<OffsetSet>,
    /// Where this block begins: the position after the block before it.
    pub start: i64,
    /// The position after this block: above its last record, holes included.
    pub position: i64,
    /// When the first record of the block was read; age counts from here.
    pub read_at: Instant,
    /// The records.
    pub records: Records,
    /// What follows.
    pub end: BlockEnd,
    /// The bytes of the budget that these records hold.
    pub grant: Grant,
}

/// The records of a block as a structure of arrays over one buffer.
#[derive(Debug, Default)]
pub struct Records {
    /// All payloads, keys and headers, one after another.
    pub buffer: Vec<u8>,
    /// Where each record's parts lie in `buffer`.
    pub spans: Vec<RecordSpan>,
    /// Headers of all records; a record's are the range in its span.
    pub headers: Vec<HeaderSpan>,
}

/// A half-open range of `u32` positions. Blocks are limited far below 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First position.
    pub from: u32,
    /// Behind the last position.
    pub to: u32,
}

impl Span {
    /// As a range to index with.
    pub fn range(self) -> std::ops::Range<usize> {
        self.from as usize..self.to as usize
    }
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSpan {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970 UTC; -1: Kafka knows none.
    pub timestamp_ms: i64,
    /// Its value in the buffer; `None`: a tombstone.
    pub value: Option<Span>,
    /// Its key in the buffer.
    pub key: Option<Span>,
    /// Its headers, as a range of [`Records::headers`].
    pub headers: Span,
}

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderSpan {
    /// Its name in the buffer. Kafka does not promise UTF-8.
    pub name: Span,
    /// Its value in the buffer.
    pub value: Option<Span>,
}

impl Records {
    /// The bytes of a part.
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.buffer[span.range()]
    }

    /// The headers of a record: names and values in the record's order.
    pub fn headers_of<'a>(
        &'a self,
        record: &RecordSpan,
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        self.headers[record.headers.range()].iter().map(|header| {
            (
                self.bytes(header.name),
                header.value.map(|span| self.bytes(span)),
            )
        })
    }

    /// Appends a record, copying its parts.
    ///
    /// # Panics
    /// When the buffer would exceed 4 GiB; the subscriber closes blocks far below.
    pub fn push<'a>(
        &mut self,
        offset: i64,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        let first_header = self.headers.len() as u32;
        for (name, value) in headers {
            let name = self.copy(name);
            let value = value.map(|value| self.copy(value));
            self.headers.push(HeaderSpan { name, value });
        }
        let headers = Span {
            from: first_header,
            to: self.headers.len() as u32,
        };
        let key = key.map(|key| self.copy(key));
        let value = value.map(|value| self.copy(value));
        self.spans.push(RecordSpan {
            offset,
            timestamp_ms,
            value,
            key,
            headers,
        });
    }

    fn copy(&mut self, part: &[u8]) -> Span {
        let from = u32::try_from(self.buffer.len()).expect("a block is below 4 GiB");
        self.buffer.extend_from_slice(part);
        Span {
            from,
            to: u32::try_from(self.buffer.len()).expect("a block is below 4 GiB"),
        }
    }
}

/// The same range as rows: flattener to accumulator.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RowBlock {
    /// Whose records these are.
    pub claim: ClaimId,
    /// How they became rows.
    pub layout: Arc<Layout>,
    /// See [`RecordBlock::start`].
    pub start: i64,
    /// See [`RecordBlock::position`].
    pub position: i64,
    /// See [`RecordBlock::read_at`].
    pub read_at: Instant,
    /// Rows by [`Layout::schema`], in the order of their offsets.
    pub rows: RecordBatch,
    /// What could not become a row, in the order of their offsets.
    pub rejects: Vec<Reject>,
    /// The last record of the block, row or reject; `None`: the block holds none.
    pub last: Option<LastRecord>,
    /// See [`RecordBlock::end`].
    pub end: BlockEnd,
    /// The bytes of the budget that these rows hold.
    pub grant: Grant,
}

/// A record that became no row, whole: a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970 UTC; -1: Kafka knows none.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its headers in their order; a name that is not UTF-8 has its bad bytes replaced.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Its value, as received.
    pub value: Option<Bytes>,
    /// Why.
    pub cause: Cause,
    /// The column, the value and what would be right.
    pub detail: String,
}

/// Why a record became a dead letter. The words are part of the bucket's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The value is empty or absent (a tombstone) and a column needs it.
    Empty,
    /// Not JSON.
    Syntax,
    /// Bytes that are not UTF-8.
    Utf8,
    /// More JSON after the first value.
    Trailing,
    /// Nested deeper than the limit.
    Depth,
    /// JSON, but not an object.
    NotAnObject,
    /// A value of another type than its column.
    Type,
    /// A number or a time outside what its column holds.
    Range,
    /// Null or missing where the column is not nullable.
    Null,
    /// A partition time outside 1970 to 2100.
    PartitionTime,
    /// The folder it belongs to is not among the objects of a batch that was begun before.
    Unplaced,
    /// The decoder panicked on it.
    Panic,
}

impl Cause {
    /// The word in the column `cause` and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Empty => "empty",
            Cause::Syntax => "syntax",
            Cause::Utf8 => "utf8",
            Cause::Trailing => "trailing",
            Cause::Depth => "depth",
            Cause::NotAnObject => "not_an_object",
            Cause::Type => "type",
            Cause::Range => "range",
            Cause::Null => "null",
            Cause::PartitionTime => "partition_time",
            Cause::Unplaced => "unplaced",
            Cause::Panic => "panic",
        }
    }
}

/// A closed range of one partition with its finished files: accumulator to uploader.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Batch {
    /// Whose records these are.
    pub claim: ClaimId,
    /// How they became rows.
    pub layout: Arc<Layout>,
    /// First offset of the range.
    pub start: i64,
    /// Behind the last offset of the range.
    pub end: i64,
    /// When the first record was read; latency counts from here.
    pub read_at: Instant,
    /// Every offset that was read in the range.
    pub read: OffsetSet,
    /// The last record of the range.
    pub last: Option<LastRecord>,
    /// Full keys in the order in which they are created; the dead letters' is the last. Empty:
    /// nothing was read, and the batch only closes its claim.
    pub keys: Vec<String>,
    /// The data files, one for each key but the last.
    pub data: Vec<BatchFile>,
    /// The dead letters; `None`: there are none.
    pub dead_letters: Option<BatchFile>,
    /// How many dead letters there are of each cause.
    pub causes: Vec<(Cause, u64)>,
    /// Nothing of this claim follows.
    pub closes_claim: bool,
    /// Shared by all batches of the partition that have not landed yet, and by the accumulator,
    /// which so knows whether one is under way.
    pub in_flight: Arc<()>,
    /// The bytes of the budget that the files hold.
    pub grant: Grant,
}

/// One finished file of a batch.
#[derive(Debug, Clone)]
pub struct BatchFile {
    /// The offsets of its rows.
    pub offsets: OffsetSet,
    /// The Parquet file.
    pub body: Bytes,
}

/// The intent before: uploader to checkpoint. Answered when the range is pending in the
/// checkpoint.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Sealed")]
pub struct Begin {
    /// Whose range it is.
    pub claim: ClaimId,
    /// The range, its keys and its layout.
    pub intent: Intent,
}

/// The proof after: uploader to checkpoint. Answered when the range has landed in the checkpoint
/// and, if there is a next, that is pending.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Sealed")]
pub struct Landed {
    /// Whose range it is.
    pub claim: ClaimId,
    /// The last record of the range.
    pub last: Option<LastRecord>,
    /// Begun in the same swap.
    pub next: Option<Intent>,
}

/// The checkpoint's answer to [`Begin`] and [`Landed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// It is in the checkpoint.
    Yes,
    /// The claim has ended: drop everything of it.
    Dropped,
}

/// An upload that cannot be finished: uploader to checkpoint, which ends the claim.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Upset {
    /// Whose range it is.
    pub claim: ClaimId,
    /// Why.
    pub reason: UpsetReason,
}

/// All of a claim has landed and nothing follows: uploader to checkpoint.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Closed {
    /// The claim.
    pub claim: ClaimId,
}

/// Offsets that were read and hold nothing, for as long as a batch may be old: accumulator to
/// checkpoint.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Holes {
    /// Whose offsets these are.
    pub claim: ClaimId,
    /// Behind the last of them.
    pub to: i64,
}

/// Sent down the stages behind the last block: each replies when all it held has gone on, the
/// uploader when all has landed. [`Gone`]: a stage behind has ended.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), Gone>")]
pub struct Drain;

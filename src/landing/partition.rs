//! One assigned partition as the consumer's thread holds it: its claim, its reading, its open
//! block, and what is due for it. No I/O here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode;

use crate::budget::{Budget, Grant};
use crate::landing::layout::Layout;
use crate::landing::offsets::OffsetSet;
use crate::landing::queue::Message;
use crate::landing::reader::Reader;
use crate::logging::Repeated;
use crate::messages::{BlockEnd, ClaimId, RecordBlock, Records};
use crate::status::PartitionStatus;

/// A block is handed on at so many records: the stages work on one while the next fills, and a
/// block of usual records stays in the processor's cache.
pub(crate) const BLOCK_RECORDS_MAX: usize = 8192;
/// Or at so many bytes.
pub(crate) const BLOCK_BYTES_MAX: usize = 1 << 20;
/// Or at this age, so that a slow topic is seen at once.
pub(crate) const BLOCK_AGE_MAX: Duration = Duration::from_millis(100);
/// The budget is asked for in steps, because each is an atomic on a line that all stages share.
const GRANT_STEP_BYTES: u64 = 64 << 10;
/// What a record takes beside its bytes: its span here, its Kafka columns later.
const RECORD_OVERHEAD_BYTES: u64 = 96;

/// One assigned partition.
#[derive(Debug)]
pub(crate) struct Partition {
    /// What it is doing.
    pub(crate) phase: Phase,
    /// Whether librdkafka was told to pause it: it is resumed only then, because a resume makes
    /// librdkafka drop what it has fetched.
    pub(crate) is_paused: bool,
    /// The fetcher has stopped (offset out of range): only a new assignment starts it again.
    pub(crate) is_fetcher_dead: bool,
    /// The claim and its reading.
    pub(crate) reading: Option<Reading>,
    /// The error that it keeps meeting.
    pub(crate) failing: Option<Failing>,
    /// When a line told of errors.
    pub(crate) said: Repeated,
    /// When a record last came.
    pub(crate) record_at: Instant,
    /// What the page reads.
    pub(crate) status: Arc<PartitionStatus>,
}

/// What a partition is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits for its claim's answer, or for a replay to land.
    Waiting,
    /// It is to be claimed again then.
    ClaimAt(Instant),
    /// It is to be sought to the reader's next offset then; and since when that is tried.
    SeekAt(Instant, Instant),
    /// Records are taken.
    Reading,
    /// It is being given back: what was read of it lands, nothing more is done for it.
    Leaving,
}

/// A claim as it is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) claim: ClaimId,
    pub(crate) layout: Arc<Layout>,
    pub(crate) forced: Arc<OffsetSet>,
    pub(crate) reader: Reader,
    /// The position after the last block handed on.
    pub(crate) handed: i64,
    /// When a block was last handed on.
    pub(crate) handed_at: Instant,
    /// The block that fills.
    pub(crate) open: Option<OpenBlock>,
    /// Since when a replay waits for its end without a record.
    pub(crate) waits_since: Instant,
}

/// A block that fills.
#[derive(Debug)]
pub(crate) struct OpenBlock {
    records: Records,
    read_at: Instant,
    grant: Grant,
    /// Bytes of the grant that its records use.
    used_bytes: u64,
}

/// An error that comes again and again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failing {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) offset: i64,
    pub(crate) since: Instant,
    pub(crate) times: u32,
    /// The first offset behind it that could be read, if any was.
    pub(crate) readable: Option<i64>,
}

impl Partition {
    pub(crate) fn new(status: Arc<PartitionStatus>, now: Instant) -> Self {
        Self {
            phase: Phase::Waiting,
            is_paused: true,
            is_fetcher_dead: false,
            reading: None,
            failing: None,
            said: Repeated::default(),
            record_at: now,
            status,
        }
    }

    /// Whether its claim, the first one since it is ours, has had an answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.reading.is_some() || matches!(self.phase, Phase::ClaimAt(_) | Phase::Leaving)
    }

    /// The offset to assign and to seek: our own next one, else 0. Never a logical one.
    pub(crate) fn next(&self) -> i64 {
        self.reading
            .as_ref()
            .map_or(0, |reading| reading.reader.next())
    }

    /// Notes a record behind the offset that cannot be read: librdkafka goes on there.
    pub(crate) fn note_readable(&mut self, offset: i64) {
        if let Some(failing) = self.failing.as_mut().filter(|known| offset > known.offset) {
            let first = failing.readable.map_or(offset, |known| known.min(offset));
            failing.readable = Some(first);
        }
    }

    /// Notes an error at the reader's next offset; returns it with how often and since when it
    /// has come there.
    pub(crate) fn failed(&mut self, code: RDKafkaErrorCode, now: Instant) -> Failing {
        let offset = self.next();
        let failing = match self.failing {
            Some(known) if known.code == code && known.offset == offset => Failing {
                times: known.times.saturating_add(1),
                ..known
            },
            _ => Failing {
                code,
                offset,
                since: now,
                times: 1,
                readable: None,
            },
        };
        self.failing = Some(failing);
        failing
    }
}

/// Bytes of the budget that a record takes for its whole way: once as it is here, once as rows
/// and in the encoder.
pub(crate) fn estimate(message: Message<'_>) -> u64 {
    let headers: usize = message
        .headers()
        .map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len))
        .sum();
    2 * (message.size() + headers) as u64 + RECORD_OVERHEAD_BYTES
}

/// The budget as the subscriber takes it.
#[derive(Debug)]
pub(crate) struct Purse {
    budget: Budget,
    /// What librdkafka's queue and the batch taken from it may hold.
    reserve: Grant,
}

impl Purse {
    /// Sets so many bytes aside for librdkafka's queue, for as long as the purse lives.
    pub(crate) fn new(budget: Budget, reserve_bytes: u64) -> Self {
        let reserve = budget.take(reserve_bytes);
        Self { budget, reserve }
    }

    /// Bytes for a record, and if there is room some ahead. A replay may exceed the limit, and so
    /// may a record when nothing else is in flight.
    fn take(&self, bytes: u64, is_replay: bool) -> Option<Grant> {
        if is_replay {
            return Some(self.budget.take(bytes));
        }
        let ahead = bytes.max(GRANT_STEP_BYTES);
        self.budget
            .try_take(ahead)
            .or_else(|| self.budget.try_take(bytes))
            .or_else(|| {
                let is_alone = self.budget.held_bytes() <= self.reserve.bytes();
                is_alone.then(|| self.budget.take(bytes))
            })
    }

    /// Asks for room to be made.
    pub(crate) fn ask(&self) {
        self.budget.ask_for_room();
    }
}

impl Reading {
    pub(crate) fn new(
        claim: ClaimId,
        layout: Arc<Layout>,
        forced: Arc<OffsetSet>,
        reader: Reader,
        now: Instant,
    ) -> Self {
        let handed = reader.next();
        Self {
            claim,
            layout,
            forced,
            reader,
            handed,
            handed_at: now,
            open: None,
            waits_since: now,
        }
    }

    /// Appends a record that the reader judged to be the next. `false`: the budget has no room,
    /// and nothing has happened.
    pub(crate) fn append(&mut self, message: Message<'_>, purse: &Purse, now: Instant) -> bool {
        let bytes = estimate(message);
        let is_replay = self.reader.end().is_some();
        let open = match &mut self.open {
            Some(open) => {
                if open.used_bytes + bytes > open.grant.bytes() {
                    let Some(more) = purse.take(bytes, is_replay) else {
                        return false;
                    };
                    open.grant.merge(more);
                }
                open
            }
            none => {
                let Some(grant) = purse.take(bytes, is_replay) else {
                    return false;
                };
                none.insert(OpenBlock {
                    records: Records::default(),
                    read_at: now,
                    grant,
                    used_bytes: 0,
                })
            }
        };
        open.used_bytes += bytes;
        open.records.push(
            message.offset(),
            message.timestamp_ms(),
            message.key(),
            message.payload(),
            message.headers(),
        );
        self.reader.took(message.offset());
        self.waits_since = now;
        true
    }

    /// Whether the open block is full.
    pub(crate) fn is_full(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.records.spans.len() >= BLOCK_RECORDS_MAX
                || open.records.buffer.len() >= BLOCK_BYTES_MAX
        })
    }

    /// Whether the open block has waited long enough, or holes alone have.
    pub(crate) fn is_due(&self, now: Instant, holes_after: Duration) -> bool {
        match &self.open {
            Some(open) => now.duration_since(open.read_at) >= BLOCK_AGE_MAX,
            None => {
                self.reader.end().is_none()
                    && self.reader.next() > self.handed
                    && now.duration_since(self.handed_at) >= holes_after
            }
        }
    }

    /// What is open as a block; an empty one where nothing is.
    pub(crate) fn hand_on(&mut self, end: BlockEnd, purse: &Purse, now: Instant) -> RecordBlock {
        let (records, read_at, grant) = match self.open.take() {
            Some(mut open) => {
                open.grant.resize(open.used_bytes);
                (open.records, open.read_at, open.grant)
            }
            None => (Records::default(), now, purse.budget.take(0)),
        };
        let start = self.handed;
        self.handed = self.reader.next();
        self.handed_at = now;
        RecordBlock {
            claim: self.claim,
            layout: self.layout.clone(),
            forced: self.forced.clone(),
            start,
            position: self.handed,
            read_at,
            records,
            end,
            grant,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_and_a_record_alone_may_exceed_the_budget() {
        const LIMIT: u64 = 10 * GRANT_STEP_BYTES;
        let budget = Budget::new(LIMIT);
        let purse = Purse::new(budget.clone(), GRANT_STEP_BYTES);
        let landing = purse.take(LIMIT / 2, false).unwrap();
        assert!(purse.take(LIMIT, false).is_none(), "not beside others");
        let replay = purse.take(2 * LIMIT, true).unwrap();
        let another = purse.take(2 * LIMIT, true).unwrap();
        assert!(purse.take(1, false).is_none(), "others wait meanwhile");
        drop((landing, replay, another));
        let alone = purse.take(2 * LIMIT, false).unwrap();
        assert!(purse.take(1, false).is_none());
        drop(alone);
        assert!(purse.take(1, false).is_some());
    }
}

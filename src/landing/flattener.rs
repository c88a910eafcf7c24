//! The flattener: records into rows.
//!
//! Receives [`RecordBlock`] from the subscriber and replies at once; decodes on a thread that may
//! block, one block after another, so that the order within a partition is kept. Sends
//! [`RowBlock`] to the accumulator and takes the next block when that has been taken; passes
//! [`Drain`] on behind everything before it, and replies when the stages behind have.
//!
//! Owns the decoder of the layout that it last saw. Blocks of a claim that has ended are dropped.
//! A record that cannot be decoded is a reject within the block. When the accumulator is gone, or
//! the decoder panics outside of any record, the actor ends, and with it the generation: nothing
//! is lost, since nothing of what it held has landed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler, Recipient,
};
use slog::Logger;

use crate::generation::Generation;
use crate::landing::claims::Claims;
use crate::landing::decoder::{Decoded, Decoder};
use crate::landing::layout::Layout;
use crate::landing::protocol::checkpoint::{LastRecord, record_hash};
use crate::messages::{Cause, Drain, RecordBlock, Records, Reject, RowBlock};
use crate::status::{Pulse, Status};

/// The second line about rejects comes so long after the first; then it takes twice as long each
/// time.
const REPORT_FIRST: Duration = Duration::from_secs(60);
/// The lines never come further apart than this, so that a day's log shows that it goes on.
const REPORT_LONGEST: Duration = Duration::from_secs(3600);
/// Rejects have ended when there was none for so long: a single good block among bad ones is none.
const QUIET: Duration = Duration::from_secs(300);
/// Where the trouble of a feed of nothing but rejects is kept.
const TROUBLE: &str = "flattener";

/// The actor. See the module's description.
#[derive(Debug)]
pub struct Flattener {
    topic: Arc<str>,
    claims: Claims,
    rows: Recipient<RowBlock>,
    drain: Recipient<Drain>,
    status: Arc<Status>,
    pulse: Arc<Pulse>,
    log: Logger,
    /// Of the layout that was last seen; a replay's differs from the configured one. Away while a
    /// block is decoded.
    decoder: Option<(Arc<Layout>, Decoder)>,
    report: Report,
}

impl Flattener {
    /// An actor of this generation. `rows` and `drain` lead to the accumulator.
    pub fn new(
        generation: &Generation,
        claims: Claims,
        rows: Recipient<RowBlock>,
        drain: Recipient<Drain>,
    ) -> Self {
        Self {
            topic: generation.config.kafka.topic.as_str().into(),
            claims,
            rows,
            drain,
            status: generation.status.clone(),
            pulse: generation.pulse("flattener"),
            log: generation.log_of("flattener"),
            decoder: None,
            report: Report::default(),
        }
    }

    /// The decoder for this layout: the one at hand if it fits.
    fn take_decoder(&mut self, layout: &Arc<Layout>) -> Decoder {
        match self.decoder.take() {
            Some((known, decoder)) if Arc::ptr_eq(&known, layout) || known == *layout => decoder,
            _ => Decoder::new(layout, &self.topic),
        }
    }

    fn give_up(&self, context: &mut Context<Self>, error: &actix::MailboxError) {
        slog::warn!(self.log, "the accumulator is gone"; "error" => %error);
        context.stop();
    }

    /// Says loudly, but not for each, that records become dead letters.
    fn report(&mut self, block: &RowBlock) {
        let now = Instant::now();
        match self.report.take(now, &block.rejects) {
            Line::None => {}
            Line::Begun => slog::warn!(self.log, "records become dead letters"; example(block)),
            Line::Goes { rejects, causes } => {
                slog::warn!(self.log, "records still become dead letters";
                    "rejects" => rejects, "causes" => causes, example(block));
            }
            Line::Ended { rejects } => {
                slog::info!(self.log, "records no longer become dead letters"; "rejects" => rejects);
            }
        }
        if block.rows.num_rows() > 0 {
            self.status.mended(TROUBLE);
        } else if let Some(reject) = block.rejects.last() {
            let text = format!(
                "every record of the last block became a dead letter, the last for the cause {}: \
                 see dead_letters, and whether [[table.columns]] fits the topic",
                reject.cause.as_str()
            );
            self.status.trouble(TROUBLE, &text, false);
        }
    }
}

impl Actor for Flattener {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.pulse.waits("records");
    }
}

impl Handler<RecordBlock> for Flattener {
    type Result = ();

    fn handle(&mut self, block: RecordBlock, context: &mut Self::Context) {
        if !self.claims.is_current(block.claim) {
            slog::debug!(self.log, "block of an ended claim dropped";
                "partition" => block.claim.partition, "offset" => block.start);
            return;
        }
        self.pulse.works();
        let layout = block.layout.clone();
        let decoder = self.take_decoder(&layout);
        let work = wrap_future::<_, Self>(flatten(decoder, block))
            .then(move |(decoder, block), actor, _| {
                actor.decoder = Some((layout, decoder));
                actor.report(&block);
                actor.pulse.waits("the accumulator");
                wrap_future(actor.rows.send(block))
            })
            .map(|taken, actor, context| match taken {
                Ok(()) => actor.pulse.waits("records"),
                Err(error) => actor.give_up(context, &error),
            });
        context.wait(work);
    }
}

impl Handler<Drain> for Flattener {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, drain: Drain, _: &mut Self::Context) -> Self::Result {
        self.pulse.waits("the accumulator to drain");
        let drained = wrap_future::<_, Self>(self.drain.send(drain));
        AtomicResponse::new(Box::pin(drained.map(
            |drained, actor, context| match drained {
                Ok(()) => actor.pulse.waits("records"),
                Err(error) => actor.give_up(context, &error),
            },
        )))
    }
}

/// Decodes a block on a thread that may block; a panic there goes on here.
async fn flatten(mut decoder: Decoder, block: RecordBlock) -> (Decoder, RowBlock) {
    crate::fault::point("flattener").await;
    let task = tokio::task::spawn_blocking(move || {
        let rows = to_rows(&mut decoder, block);
        (decoder, rows)
    });
    match task.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends: so does whoever waits for this.
            Err(_) => std::future::pending().await,
        },
    }
}

fn to_rows(decoder: &mut Decoder, block: RecordBlock) -> RowBlock {
    let Decoded { rows, rejects } =
        decoder.decode(&block.records, block.claim.partition, &block.forced);
    let mut grant = block.grant;
    let rejected: usize = rejects.iter().map(reject_bytes).sum();
    grant.resize((rows.get_array_memory_size() + rejected) as u64);
    RowBlock {
        claim: block.claim,
        layout: block.layout,
        start: block.start,
        position: block.position,
        read_at: block.read_at,
        rows,
        rejects,
        last: last_record(&block.records),
        end: block.end,
        grant,
    }
}

/// What identifies the block's last record.
fn last_record(records: &Records) -> Option<LastRecord> {
    let record = records.spans.last()?;
    let part = |span: Option<_>| span.map(|span| records.bytes(span));
    Some(LastRecord {
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        hash: record_hash(part(record.key), part(record.value)),
    })
}

/// The memory that a reject holds, but for its allocations' own overhead.
fn reject_bytes(reject: &Reject) -> usize {
    let length = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len);
    let headers = reject.headers.iter();
    size_of::<Reject>()
        + length(&reject.key)
        + length(&reject.value)
        + reject.detail.len()
        + headers
            .map(|(name, value)| size_of_val(name) * 3 + name.len() + length(value))
            .sum::<usize>()
}

/// Coordinates and cause of a block's first reject. Never the record itself.
fn example(block: &RowBlock) -> impl slog::KV {
    let reject = block.rejects.first();
    slog::o!(
        "partition" => block.claim.partition,
        "offset" => reject.map(|reject| reject.offset),
        "cause" => reject.map(|reject| reject.cause.as_str()),
    )
}

/// When a line about rejects is due.
#[derive(Debug, Default)]
struct Report {
    /// Since when, and until when no further line comes; `None`: there are none.
    going: Option<Going>,
}

#[derive(Debug)]
struct Going {
    /// Since the last line.
    causes: BTreeMap<Cause, u64>,
    /// Since the first line.
    rejects: u64,
    last_reject: Instant,
    next_line: Instant,
    interval: Duration,
}

/// The line that is due.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    None,
    Begun,
    Goes { rejects: u64, causes: String },
    Ended { rejects: u64 },
}

impl Report {
    /// Takes a block's rejects.
    fn take(&mut self, now: Instant, rejects: &[Reject]) -> Line {
        let Some(going) = &mut self.going else {
            if rejects.is_empty() {
                return Line::None;
            }
            self.going = Some(Going {
                causes: BTreeMap::new(),
                rejects: rejects.len() as u64,
                last_reject: now,
                next_line: now + REPORT_FIRST,
                interval: REPORT_FIRST,
            });
            return Line::Begun;
        };
        if rejects.is_empty() {
            if now - going.last_reject < QUIET {
                return Line::None;
            }
            let rejects = going.rejects;
            self.going = None;
            return Line::Ended { rejects };
        }
        going.last_reject = now;
        going.rejects += rejects.len() as u64;
        for reject in rejects {
            *going.causes.entry(reject.cause).or_default() += 1;
        }
        if now < going.next_line {
            return Line::None;
        }
        going.interval = (going.interval * 2).min(REPORT_LONGEST);
        going.next_line = now + going.interval;
        let causes = std::mem::take(&mut going.causes);
        let words = causes
            .iter()
            .map(|(cause, count)| format!("{}: {count}", cause.as_str()));
        Line::Goes {
            rejects: causes.values().sum(),
            causes: words.collect::<Vec<_>>().join(", "),
        }
    }
}

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
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler};
use slog::Logger;

use crate::fault::{Step, Way};
use crate::generation::Generation;
use crate::landing::claims::Claims;
use crate::landing::cpu::{Cancelled, on_cpu};
use crate::landing::decoder::{Decoded, Decoder};
use crate::landing::layout::Layout;
use crate::landing::place::last_place;
use crate::landing::protocol::checkpoint::{LastRecord, record_hash};
use crate::logging::events;
use crate::messages::{Cause, Drain, Gone, RecordBlock, Records, Reject, RowBlock};
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

/// Why the actor ends.
#[derive(Debug, thiserror::Error)]
enum FlattenerError {
    #[error("the accumulator is gone")]
    Gone(#[from] Gone),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// The actor. See the module's description.
#[derive(Debug)]
pub struct Flattener {
    topic: Arc<str>,
    claims: Claims,
    rows: Way<RowBlock>,
    drain: Way<Drain>,
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
        rows: Way<RowBlock>,
        drain: Way<Drain>,
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

    fn give_up(&self, context: &mut Context<Self>, error: &FlattenerError) {
        slog::warn!(self.log, "flattener ends"; "error" => %error);
        context.stop();
    }

    /// Says loudly, but not for each, that records become dead letters.
    fn report(&mut self, block: &RowBlock) {
        let now = Instant::now();
        match self.report.take(now, &block.rejects) {
            Line::None => {}
            Line::Begun => {
                slog::warn!(self.log, "records become dead letters"; events::DEAD_LETTERS,
                    example(block));
            }
            Line::Goes { rejects, causes } => {
                slog::warn!(self.log, "records still become dead letters"; events::DEAD_LETTERS,
                    "rejects" => rejects, "causes" => causes, example(block));
            }
            Line::Ended { rejects, lasting } => {
                slog::info!(self.log, "records no longer become dead letters";
                    events::DEAD_LETTERS_ENDED, "rejects" => rejects,
                    "seconds" => lasting.as_secs());
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
            .then(move |decoded, actor, _| {
                let sent = decoded.map(|(decoder, block)| {
                    actor.decoder = Some((layout, decoder));
                    actor.report(&block);
                    if let Some(place) = last_place(&block.rows) {
                        actor.status.note_position(place);
                    }
                    actor.pulse.waits("the accumulator");
                    actor.rows.send(block)
                });
                wrap_future(async move { Ok(sent?.await.map_err(Gone::from)?) })
            })
            .map(|taken, actor, context| match taken {
                Ok(()) => actor.pulse.waits("records"),
                Err(error) => actor.give_up(context, &error),
            });
        context.wait(work);
    }
}

impl Handler<Drain> for Flattener {
    type Result = AtomicResponse<Self, Result<(), Gone>>;

    fn handle(&mut self, drain: Drain, _: &mut Self::Context) -> Self::Result {
        self.pulse.waits("the accumulator to drain");
        let drained = self.drain.send(drain);
        let drained = wrap_future::<_, Self>(async move { drained.await? });
        AtomicResponse::new(Box::pin(drained.map(|drained, actor, context| {
            match drained {
                Ok(()) => actor.pulse.waits("records"),
                Err(gone) => actor.give_up(context, &gone.into()),
            }
            drained
        })))
    }
}

/// Decodes a block.
async fn flatten(
    mut decoder: Decoder,
    block: RecordBlock,
) -> Result<(Decoder, RowBlock), Cancelled> {
    on_cpu(Step::Decode, move || {
        let rows = to_rows(&mut decoder, block);
        Ok((decoder, rows))
    })
    .await
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
    since: Instant,
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
    Ended { rejects: u64, lasting: Duration },
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
                since: now,
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
            let (rejects, lasting) = (going.rejects, going.last_reject - going.since);
            self.going = None;
            return Line::Ended { rejects, lasting };
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use actix::Addr;

    use super::*;
    use crate::budget::Budget;
    use crate::config::{Column, ColumnSource, ColumnType, PartitionTime};
    use crate::generation::{ActorSet, Failure};
    use crate::landing::offsets::OffsetSet;
    use crate::messages::{BlockEnd, ClaimId};

    const CLAIM: ClaimId = ClaimId {
        partition: 2,
        epoch: 5,
    };

    /// Stands for the accumulator.
    #[derive(Default)]
    struct Sink {
        seen: Rc<RefCell<Vec<Seen>>>,
    }

    enum Seen {
        Rows(RowBlock),
        Drained,
    }

    impl Actor for Sink {
        type Context = Context<Self>;
    }

    impl Handler<RowBlock> for Sink {
        type Result = ();

        fn handle(&mut self, block: RowBlock, _: &mut Self::Context) {
            self.seen.borrow_mut().push(Seen::Rows(block));
        }
    }

    impl Handler<Drain> for Sink {
        type Result = Result<(), Gone>;

        fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
            self.seen.borrow_mut().push(Seen::Drained);
            Ok(())
        }
    }

    struct Chain {
        flattener: Addr<Flattener>,
        sink: Addr<Sink>,
        seen: Rc<RefCell<Vec<Seen>>>,
        claims: Claims,
        status: Arc<Status>,
        budget: Budget,
        layout: Arc<Layout>,
        actors: ActorSet,
    }

    impl Chain {
        fn new() -> Self {
            let seen = Rc::<RefCell<Vec<Seen>>>::default();
            let sink = Sink { seen: seen.clone() }.start();
            let (claims, status) = (Claims::default(), Status::new());
            claims.hold_landing(CLAIM);
            let flattener = Flattener {
                topic: "topic".into(),
                claims: claims.clone(),
                rows: Way::new(Step::HandRows, &sink),
                drain: Way::new(Step::HandDrain, &sink),
                status: status.clone(),
                pulse: status.group("landing").pulse("flattener"),
                log: Logger::root(slog::Discard, slog::o!()),
                decoder: None,
                report: Report::default(),
            };
            let mut actors = ActorSet::default();
            Self {
                flattener: actors.start("flattener", Context::new(), flattener),
                sink,
                seen,
                claims,
                status,
                budget: Budget::new(1 << 20),
                layout: layout("a"),
                actors,
            }
        }

        fn block(&self, start: i64, values: &[&str]) -> RecordBlock {
            let mut records = Records::default();
            for (offset, value) in (start..).zip(values) {
                records.push(offset, 1, None, Some(value.as_bytes()), [].into_iter());
            }
            RecordBlock {
                claim: CLAIM,
                layout: self.layout.clone(),
                forced: Arc::new(OffsetSet::default()),
                start,
                position: start + values.len() as i64,
                read_at: Instant::now(),
                records,
                end: BlockEnd::More,
                grant: self.budget.take(100_000),
            }
        }

        async fn send(&self, block: RecordBlock) {
            self.flattener.send(block).await.unwrap();
        }
    }

    fn layout(path: &str) -> Arc<Layout> {
        Arc::new(Layout {
            columns: vec![Column {
                name: "a".to_owned(),
                source: ColumnSource::Path(vec![path.to_owned()]),
                kind: ColumnType::Int64,
                nullable: false,
            }],
            extra: false,
            partition_by: Vec::new(),
            partition_time: PartitionTime::KafkaTimestamp,
        })
    }

    fn reject(cause: Cause) -> Reject {
        Reject {
            offset: 0,
            timestamp_ms: 0,
            key: None,
            headers: Vec::new(),
            value: None,
            cause,
            detail: String::new(),
        }
    }

    #[actix::test]
    async fn blocks_go_on_in_their_order_and_the_drain_behind_them() {
        let mut chain = Chain::new();
        chain.send(chain.block(10, &["{\"a\":1}", "?"])).await;
        chain.layout = layout("b");
        chain.send(chain.block(12, &["{\"b\":2}"])).await;
        chain.send(chain.block(13, &[])).await;
        chain.flattener.send(Drain).await.unwrap().unwrap();
        let seen = chain.seen.borrow();
        let [
            Seen::Rows(first),
            Seen::Rows(second),
            Seen::Rows(third),
            Seen::Drained,
        ] = &seen[..]
        else {
            panic!("{} messages", seen.len());
        };
        assert_eq!((first.start, first.position), (10, 12));
        assert_eq!((first.rows.num_rows(), first.rejects.len()), (1, 1));
        assert_eq!(first.rejects[0].offset, 11);
        let last = first.last.unwrap();
        assert_eq!(
            (last.offset, last.hash),
            (11, record_hash(None, Some(b"?")))
        );
        assert_eq!((second.start, second.rows.num_rows()), (12, 1));
        assert_eq!((third.position, third.last), (13, None));
    }

    #[actix::test]
    async fn rows_hold_what_they_take_of_the_budget() {
        let chain = Chain::new();
        chain.send(chain.block(0, &["{\"a\":1}"; 10])).await;
        chain.flattener.send(Drain).await.unwrap().unwrap();
        let held = chain.budget.held_bytes();
        let Some(Seen::Rows(block)) = chain.seen.borrow_mut().drain(..).next() else {
            panic!("no rows");
        };
        assert_eq!(held, block.rows.get_array_memory_size() as u64);
        drop(block);
        assert_eq!(chain.budget.held_bytes(), 0);
    }

    #[actix::test]
    async fn a_block_of_an_ended_claim_is_dropped_with_its_grant() {
        let chain = Chain::new();
        chain.claims.hold_landing(ClaimId { epoch: 6, ..CLAIM });
        chain.send(chain.block(0, &["{\"a\":1}"])).await;
        chain.flattener.send(Drain).await.unwrap().unwrap();
        assert!(matches!(chain.seen.borrow()[..], [Seen::Drained]));
        assert_eq!(chain.budget.held_bytes(), 0);
    }

    #[actix::test]
    async fn a_feed_of_nothing_but_rejects_is_a_trouble_until_a_row_comes() {
        let chain = Chain::new();
        chain.send(chain.block(0, &["?", "{}"])).await;
        chain.flattener.send(Drain).await.unwrap().unwrap();
        let troubles = chain.status.troubles();
        assert!(troubles[0].1.text.contains("cause null"), "{troubles:?}");
        chain.send(chain.block(2, &["?", "{\"a\":1}"])).await;
        chain.flattener.send(Drain).await.unwrap().unwrap();
        assert!(chain.status.troubles().is_empty());
    }

    #[actix::test]
    async fn without_an_accumulator_it_ends() {
        let mut chain = Chain::new();
        let block = chain.block(0, &["{\"a\":1}"]);
        let (sink, flattener) = (chain.sink.clone(), chain.flattener.clone());
        sink.send(Stop).await.unwrap();
        let _ = flattener.send(block).await;
        let Failure::Actor { actor, .. } = chain.actors.ended().await else {
            panic!("another failure");
        };
        assert_eq!(actor, "flattener");
    }

    #[derive(actix::Message)]
    #[rtype(result = "()")]
    struct Stop;

    impl Handler<Stop> for Sink {
        type Result = ();

        fn handle(&mut self, _: Stop, context: &mut Self::Context) {
            context.stop();
        }
    }

    #[test]
    fn rejects_are_told_when_they_begin_at_growing_intervals_and_when_they_end() {
        let mut report = Report::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let bad = [reject(Cause::Type), reject(Cause::Syntax)];
        let goes = |rejects, causes: &str| Line::Goes {
            rejects,
            causes: causes.to_owned(),
        };
        assert_eq!(report.take(at(0), &[]), Line::None);
        assert_eq!(report.take(at(1), &bad), Line::Begun);
        assert_eq!(report.take(at(2), &bad[..1]), Line::None);
        assert_eq!(report.take(at(60), &[]), Line::None);
        assert_eq!(report.take(at(61), &bad), goes(3, "syntax: 1, type: 2"));
        assert_eq!(report.take(at(180), &bad), Line::None);
        assert_eq!(report.take(at(181), &bad), goes(4, "syntax: 2, type: 2"));
        assert_eq!(report.take(at(480), &[]), Line::None);
        assert_eq!(
            report.take(at(481), &[]),
            Line::Ended {
                rejects: 9,
                lasting: Duration::from_secs(180)
            }
        );
        assert_eq!(report.take(at(482), &bad), Line::Begun);
    }
}

//! Polls the source.
//!
//! Receives: nothing but its own ticks. Sends: a [`Sample`] for each success, its body byte for
//! byte, and awaits that it is held; at [`Held::Full`] it offers the same sample again and polls no
//! further. Owns: the HTTP client and the schedule. When it fails: a poll that fails is counted by
//! its kind, said once, and tried again later; nothing of it is published. A source that answers
//! with the same timestamp for `stale_after` is reported as frozen, and what it answers is
//! published all the same, since whether that is of use is not for the poller to judge.
//!
//! It ends when the generation drains.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture,
};
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName};
use tokio_util::sync::CancellationToken;

use super::answer::{PollFailure, Verdict, judge};
use super::schedule::Schedule;
use super::source::{Answer, HttpSource};
use super::staleness::{Change, Staleness};
use crate::fault::{self, Step, Way};
use crate::generation::Generation;
use crate::logging::{Repeated, Say, events};
use crate::messages::{Gone, Held, Sample};
use crate::status::{Pulse, Status, now_ms};

/// Where the status says that polls fail.
pub(super) const FAILING: &str = "source";

/// Where the status says that the source is frozen.
pub(super) const FROZEN: &str = "source frozen";

/// A sample that found the publisher full is offered again after this: a broker that comes back
/// empties the queue within a second, and a sample waits no longer than a poll would.
const OFFER_AGAIN: Duration = Duration::from_secs(1);

/// As much of a header of the source's is passed on: a date has 29 characters, a content type
/// seldom more.
const HEADER_CHARS: usize = 200;

/// The actor.
#[derive(Debug)]
pub struct Poller {
    source: Arc<HttpSource>,
    /// The source's address as it is shown.
    name: Arc<str>,
    publisher: Way<Sample>,
    schedule: Schedule,
    /// What is said of polls that fail.
    failing: Repeated,
    /// Polls that failed since the last success: the back-off grows with them.
    failures: u64,
    staleness: Staleness,
    status: Arc<Status>,
    pulse: Arc<Pulse>,
    log: slog::Logger,
    drain: CancellationToken,
}

/// It is time to poll.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Tick;

impl Poller {
    /// A poller of the generation's source.
    ///
    /// # Errors
    /// When no HTTP client can be made for it.
    pub fn new(
        generation: &Generation,
        source: &crate::config::Source,
        publisher: Way<Sample>,
    ) -> Result<Self, String> {
        let http = HttpSource::new(source)?;
        let now = Instant::now();
        Ok(Self {
            name: http.name().into(),
            source: Arc::new(http),
            publisher,
            schedule: Schedule::new(
                now,
                source.interval,
                generation.config.supervision.backoff_max,
            ),
            failing: Repeated::default(),
            failures: 0,
            staleness: Staleness::new(source.stale_after),
            status: generation.status.clone(),
            pulse: generation.pulse("poller"),
            log: generation.log_of("poller"),
            drain: generation.drain.clone(),
        })
    }

    /// What came of a poll that began at `polled_at`.
    fn answered(
        &mut self,
        polled_at: Instant,
        answer: Result<Answer, PollFailure>,
        context: &mut Context<Self>,
    ) {
        self.pulse.works();
        let judged =
            answer.and_then(
                |answer| match judge(answer.status, &answer.headers, &answer.body) {
                    Verdict::Success(timestamp) => Ok((answer, timestamp)),
                    Verdict::Failure(failure) => Err(failure),
                },
            );
        match judged {
            Err(failure) => {
                self.failed(&failure);
                let now = Instant::now();
                let due = self
                    .schedule
                    .retry(polled_at, now, self.failures, fastrand::f64());
                self.arm(due, context);
            }
            Ok((answer, timestamp)) => {
                self.succeeded(timestamp, &answer.body);
                self.offer(polled_at, self.sample(answer), context);
            }
        }
    }

    fn failed(&mut self, failure: &PollFailure) {
        let kind = failure.kind.as_str();
        self.status
            .count("groundtrack_polls_total", &[("result", kind)], 1);
        let text = format!("{} gives nothing to publish: {failure}", self.name);
        self.status.trouble(FAILING, &text, false);
        self.failures += 1;
        match self.failing.failed(Instant::now()) {
            Some(Say::Started) => slog::warn!(self.log, "source fails"; events::SOURCE_FAILS,
                "source" => &*self.name, "kind" => kind, "error" => &failure.detail),
            Some(Say::Still { count, lasting }) => {
                slog::warn!(self.log, "source still fails"; events::SOURCE_FAILS,
                "source" => &*self.name, "kind" => kind, "error" => &failure.detail,
                "failures" => count, "seconds" => lasting.as_secs())
            }
            _ => slog::debug!(self.log, "poll failed";
                "kind" => kind, "error" => &failure.detail),
        }
    }

    fn succeeded(&mut self, timestamp: Option<serde_json::Value>, body: &Bytes) {
        self.status
            .count("groundtrack_polls_total", &[("result", "success")], 1);
        let now = Instant::now();
        self.failures = 0;
        self.status.mended(FAILING);
        if let Some(Say::Ended { count, lasting }) = self.failing.ended(now) {
            slog::info!(self.log, "source answers again"; events::SOURCE_BACK, "source" => &*self.name,
                "failures" => count, "seconds" => lasting.as_secs());
        }
        match self.staleness.seen(now, timestamp, body) {
            Change::None => {}
            Change::Froze(unchanged) => {
                let seconds = unchanged.as_secs();
                let text = format!(
                    "{} has answered with the same timestamp for {seconds} s; what it answers is \
                     published all the same",
                    self.name
                );
                self.status.trouble(FROZEN, &text, false);
                slog::warn!(self.log, "source is frozen"; events::SOURCE_FROZEN, "source" => &*self.name,
                    "seconds" => seconds);
            }
            Change::Thawed(unchanged) => {
                self.status.mended(FROZEN);
                slog::info!(self.log, "source moves again"; events::SOURCE_MOVES, "source" => &*self.name,
                    "seconds" => unchanged.as_secs());
            }
        }
    }

    fn sample(&self, answer: Answer) -> Sample {
        Sample {
            body: answer.body,
            fetched_at_ms: now_ms(),
            source: self.name.clone(),
            http_date: header(&answer.headers, &DATE),
            content_type: header(&answer.headers, &CONTENT_TYPE),
        }
    }

    /// Offers the sample until it is held; polls no further meanwhile.
    fn offer(&mut self, polled_at: Instant, sample: Sample, context: &mut Context<Self>) {
        let publisher = self.publisher.clone();
        let drain = self.drain.clone();
        let pulse = self.pulse.clone();
        let offered = async move {
            loop {
                let held = publisher.send_waiting(sample.clone(), &pulse, "the publisher");
                if held.await? == Held::Yes {
                    return Ok(true);
                }
                pulse.waits("the publisher");
                tokio::select! {
                    () = tokio::time::sleep(OFFER_AGAIN) => {}
                    () = drain.cancelled() => return Ok(false),
                }
            }
        };
        context.wait(offered.into_actor(self).map(
            move |held, actor, context: &mut Context<Self>| match held {
                Ok(true) => {
                    let due = actor.schedule.next(polled_at, Instant::now());
                    actor.arm(due, context);
                }
                Ok(false) => {
                    actor
                        .status
                        .count("groundtrack_samples_unpublished_total", &[], 1);
                    slog::error!(
                        actor.log,
                        "a sample is lost: the publisher was full when the drain began";
                        events::SAMPLES_LOST
                    );
                }
                Err(Gone) => {
                    slog::error!(actor.log, "poller ends"; "error" => "the publisher is gone");
                    context.stop();
                }
            },
        ));
    }

    fn arm(&self, due: Instant, context: &mut Context<Self>) {
        self.pulse.waits("the next poll");
        context.notify_later(Tick, due.saturating_duration_since(Instant::now()));
    }
}

impl Actor for Poller {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        slog::info!(self.log, "polling"; "source" => &*self.name);
        let drain = self.drain.clone();
        let drained = async move { drain.cancelled().await };
        context.spawn(
            drained
                .into_actor(self)
                .map(|(), _, context: &mut Context<Self>| context.stop()),
        );
        context.notify(Tick);
    }
}

impl Handler<Tick> for Poller {
    type Result = ();

    fn handle(&mut self, _: Tick, context: &mut Context<Self>) {
        // It may take as long as the source's time-out, which may be longer than the heartbeat.
        self.pulse.waits("the source");
        let polled_at = Instant::now();
        let source = self.source.clone();
        let drain = self.drain.clone();
        let asked = async move {
            tokio::select! {
                answer = fault::within(Step::Poll, || source.ask()) => Some(answer),
                () = drain.cancelled() => None,
            }
        };
        context.wait(asked.into_actor(self).map(
            move |answer, actor, context: &mut Context<Self>| {
                if let Some(answer) = answer {
                    actor.answered(polled_at, answer, context);
                }
            },
        ));
    }
}

/// A header as it came, shortened; `None`: it is missing or no text.
fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    Some(text.chars().take(HEADER_CHARS).collect())
}

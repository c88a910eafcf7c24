//! The ingest group: the [`poller`] asks the source, the [`publisher`] puts its answers into Kafka.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod answer;
pub mod poller;
mod producer;
pub mod publisher;
mod queue;
mod schedule;
pub(crate) mod source;
mod staleness;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::Context;

use crate::fault::{Step, Way};
use crate::generation::{ActorSet, End, Failure, Generation};
use crate::landing::cpu::{Cancelled, on_cpu};
use crate::logging::events;
use poller::Poller;
use producer::{KafkaProducer, deliver};
use publisher::{Flush, Publisher};

/// Of the drain's deadline the publisher may use this part: landing needs the rest for what is
/// published last.
const FLUSH_SHARE: u32 = 4;

/// After a failure what the publisher still holds is published first, for so long: a
/// broker that answers needs milliseconds.
const FLUSH_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Runs one generation of the group: publisher first, then poller. Draining ends the poller first
/// and then publishes what is held, within a quarter of `limits.drain`; what is left is said and
/// counted. Without a `[source]` it does nothing until it is told to end.
///
/// # Errors
/// When it cannot start, or an actor ends that should not.
pub async fn run(generation: Generation) -> Result<End, Failure> {
    let end = serve(&generation).await;
    // These hold for this generation only; the next one finds out for itself.
    for place in [poller::FAILING, poller::FROZEN, publisher::FAILING] {
        generation.status.mended(place);
    }
    end
}

async fn serve(generation: &Generation) -> Result<End, Failure> {
    let Some(source) = &generation.config.source else {
        return Ok(idle(generation).await);
    };
    let mut actors = ActorSet::default();
    let gave_up = Arc::new(OnceLock::new());
    let publisher = Publisher::new(generation, gave_up.clone())
        .map_err(|error| Failure::Group(format!("no producer: {error}")))?;
    let producer = publisher.producer();
    let publisher = actors.start("publisher", Context::new(), publisher);
    let samples = Way::new(Step::HandSample, &publisher);
    let flush = Way::new(Step::Flush, &publisher);
    let poller = Poller::new(generation, source, samples).map_err(Failure::Group)?;
    actors.start("poller", Context::new(), poller);

    let end = tokio::select! {
        biased;
        () = generation.stop.cancelled() => Ok(End::Stopped),
        () = generation.drain.cancelled() => drain(generation, &mut actors, &flush, &producer).await,
        failure = actors.ended() => Err(failure),
    };
    match &end {
        Err(Failure::Actor {
            actor: "poller", ..
        }) => flush_within(generation, &flush, &producer, FLUSH_AFTER_FAILURE).await,
        Err(_) => deliver_rest(generation, &producer).await,
        Ok(_) => {}
    }
    actors.shut_down().await;
    end.map_err(|failure| with_reason(failure, &gave_up))
}

async fn idle(generation: &Generation) -> End {
    tokio::select! {
        biased;
        () = generation.stop.cancelled() => End::Stopped,
        () = generation.drain.cancelled() => End::Drained,
    }
}

/// Waits for the poller, which ends by itself, and publishes what is held.
async fn drain(
    generation: &Generation,
    actors: &mut ActorSet,
    flush: &Way<Flush>,
    producer: &KafkaProducer,
) -> Result<End, Failure> {
    tokio::select! {
        biased;
        () = generation.stop.cancelled() => return Ok(End::Stopped),
        failure = actors.ended() => match failure {
            Failure::Actor { actor: "poller", .. } => {}
            failure => return Err(failure),
        },
    }
    let within = generation.config.limits.drain / FLUSH_SHARE;
    tokio::select! {
        biased;
        () = generation.stop.cancelled() => Ok(End::Stopped),
        failure = actors.ended() => Err(failure),
        () = flush_within(generation, flush, producer, within) => Ok(End::Drained),
    }
}

/// Publishes what is held, for so long, and says what is left.
async fn flush_within(
    generation: &Generation,
    flush: &Way<Flush>,
    producer: &KafkaProducer,
    within: Duration,
) {
    match flush.send(Flush { within }).await {
        Ok(left) => say_lost(generation, left, within),
        Err(_) => deliver_rest(generation, producer).await,
    }
}

/// The publisher is gone: delivers what its producer has under way, and says what is left.
async fn deliver_rest(generation: &Generation, producer: &KafkaProducer) {
    let producer = producer.clone();
    let delivered = on_cpu(Step::DeliverRest, move || {
        Ok::<_, Cancelled>(deliver(&producer, FLUSH_AFTER_FAILURE))
    });
    say_lost(
        generation,
        delivered.await.unwrap_or(0),
        FLUSH_AFTER_FAILURE,
    );
}

fn say_lost(generation: &Generation, left: usize, within: Duration) {
    if left > 0 {
        generation
            .status
            .count("groundtrack_samples_unpublished_total", &[], left as u64);
        slog::error!(generation.log, "samples are lost: Kafka did not take them in time";
            events::SAMPLES_LOST, "samples" => left, "seconds" => within.as_secs());
    }
}

/// An actor that gave up by itself has left its reason.
fn with_reason(failure: Failure, gave_up: &OnceLock<String>) -> Failure {
    match (failure, gave_up.get()) {
        (
            Failure::Actor {
                actor: "publisher", ..
            },
            Some(reason),
        ) => Failure::Actor {
            actor: "publisher",
            reason: reason.clone(),
        },
        (failure, _) => failure,
    }
}

//! The stages behind the consumer, started downstream first.

use std::sync::Arc;

use actix::{Actor, Addr, Context};

use crate::budget::Budget;
use crate::fault::{Step, Stepped, Way};
use crate::generation::{ActorSet, Generation};
use crate::landing::accumulator::{Accumulator, AccumulatorParts};
use crate::landing::broker::Broker;
use crate::landing::checkpoint::{CheckpointActor, CheckpointParts};
use crate::landing::claims::Claims;
use crate::landing::flattener::Flattener;
use crate::landing::layout::Layout;
use crate::landing::ledger::Ledger;
use crate::landing::open_batch::Rotation;
use crate::landing::parquet_file::Codec;
use crate::landing::patience::{Patience, Place};
use crate::landing::protocol::keys::Names;
use crate::landing::subscriber::ClaimWays;
use crate::landing::uploader::{CheckpointRecipients, Uploader, UploaderParts};
use crate::messages::{CommandWay, Drain, RecordBlock};
use crate::store::ObjectStore;

/// What the stages of a generation share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The generation.
    pub generation: Generation,
    /// Where objects go.
    pub store: Stepped<dyn ObjectStore>,
    /// What Kafka is asked.
    pub broker: Stepped<dyn Broker>,
    /// The consumer's thread.
    pub commands: CommandWay,
    /// Which claims count.
    pub claims: Claims,
    /// What is in flight.
    pub budget: Budget,
    /// How records become rows.
    pub layout: Arc<Layout>,
}

/// The ways on which the subscriber sends.
#[derive(Debug, Clone)]
pub struct Stages {
    /// To the flattener.
    pub records: Way<RecordBlock>,
    /// To the flattener.
    pub drain: Way<Drain>,
    /// To the checkpoint actor.
    pub checkpoint: ClaimWays,
}

impl Stages {
    /// Starts checkpoint, uploader, accumulator and flattener.
    pub fn start(actors: &mut ActorSet, shared: &Shared) -> Self {
        let generation = &shared.generation;
        let config = &generation.config;
        let names = Names::of(config);
        let checkpoint = start_checkpoint(actors, shared, &names);

        let pulse = generation.pulse("uploader");
        let log = generation.log_of("uploader");
        let uploader = Uploader::new(UploaderParts {
            store: shared.store.clone(),
            names: names.clone(),
            codec: Codec::of(&config.files),
            claims: shared.claims.clone(),
            checkpoint: CheckpointRecipients {
                begin: Way::new(Step::HandBegin, &checkpoint),
                landed: Way::new(Step::HandLanded, &checkpoint),
                holes: Way::new(Step::HandHoles, &checkpoint),
                upset: Way::new(Step::HandUpset, &checkpoint),
                closed: Way::new(Step::HandClosed, &checkpoint),
            },
            patience: Patience::new(
                Place::Store,
                generation.status.clone(),
                pulse.clone(),
                log.clone(),
            ),
            status: generation.status.clone(),
            pulse,
            log,
        });
        let uploader = start(actors, "uploader", uploader);

        let accumulator = Accumulator::new(AccumulatorParts {
            rotation: Rotation {
                max_rows: config.files.max_rows,
                max_bytes: config.files.max_bytes,
                max_age: config.files.max_age,
                codec: Codec::of(&config.files),
                names,
            },
            claims: shared.claims.clone(),
            budget: shared.budget.clone(),
            uploader: Way::new(Step::HandBatch, &uploader),
            checkpoint: Way::new(Step::HandHoles, &checkpoint),
            drain: Way::new(Step::HandDrain, &uploader),
            status: generation.status.clone(),
            pulse: generation.pulse("accumulator"),
            log: generation.log_of("accumulator"),
        });
        let accumulator = start(actors, "accumulator", accumulator);

        let flattener = Flattener::new(
            generation,
            shared.claims.clone(),
            Way::new(Step::HandRows, &accumulator),
            Way::new(Step::HandDrain, &accumulator),
        );
        let flattener = start(actors, "flattener", flattener);
        Self {
            records: Way::new(Step::HandRecords, &flattener),
            drain: Way::new(Step::HandDrain, &flattener),
            checkpoint: ClaimWays {
                claim: Way::new(Step::HandClaim, &checkpoint),
                release: Way::new(Step::HandRelease, &checkpoint),
                unreadable: Way::new(Step::HandUnreadable, &checkpoint),
            },
        }
    }
}

fn start_checkpoint(
    actors: &mut ActorSet,
    shared: &Shared,
    names: &Names,
) -> Addr<CheckpointActor> {
    let generation = &shared.generation;
    let pulse = generation.pulse("checkpoint");
    let log = generation.log_of("checkpoint");
    let patience =
        |place| Patience::new(place, generation.status.clone(), pulse.clone(), log.clone());
    let checkpoint = CheckpointActor::new(CheckpointParts {
        config: generation.config.clone(),
        layout: shared.layout.clone(),
        writer: writer(generation.number),
        ledger: Ledger::new(
            shared.store.clone(),
            names.clone(),
            patience(Place::Checkpoints),
            log.clone(),
        ),
        broker: shared.broker.clone(),
        kafka_patience: patience(Place::Kafka),
        claims: shared.claims.clone(),
        commands: shared.commands.clone(),
        status: generation.status.clone(),
        pulse: pulse.clone(),
        log: log.clone(),
    });
    start(actors, "checkpoint", checkpoint)
}

/// A name that no other generation of any process has: host, process and generation for people,
/// 64 random bits for certainty.
fn writer(generation: u64) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!(
        "{}-{}-{generation}-{:016x}",
        host.trim(),
        std::process::id(),
        fastrand::u64(..)
    )
}

fn start<A: Actor<Context = Context<A>>>(
    actors: &mut ActorSet,
    name: &'static str,
    actor: A,
) -> Addr<A> {
    actors.start(name, Context::new(), actor)
}

//! One generation of a group of actors: what it is given, how its actors' ends are seen, and how
//! it ends.
//!
//! Each generation runs on a thread of its own with an actix system of its own, so that a group
//! whose thread is stuck stops neither the supervisor nor the other groups.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use actix::{Actor, Addr, Context};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::status::{GroupStatus, Pulse, Status};

/// What a generation is given. Immutable for its life.
#[derive(Debug, Clone)]
pub struct Generation {
    /// The configuration.
    pub config: Arc<Config>,
    /// What is known about the process.
    pub status: Arc<Status>,
    /// What is known about its group.
    pub group: Arc<GroupStatus>,
    /// With the fields `group` and `generation`.
    pub log: slog::Logger,
    /// 1 for the first.
    pub number: u64,
    /// Land what the topic held at the start, then end.
    pub until_caught_up: bool,
    /// Cancelled: drain from the source down, then return [`End::Drained`].
    pub drain: CancellationToken,
    /// Cancelled: return as soon as possible; what is in memory is left to the next generation.
    pub stop: CancellationToken,
}

/// How a generation ended as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was asked to drain, and all that it held has landed.
    Drained,
    /// It was asked to stop at once.
    Stopped,
    /// Everything that the topic held at the start has landed.
    CaughtUp,
    /// Only partitions remain that cannot go on: which, and why.
    OnlyStoppedLeft(String),
}

/// Why a generation ended though it should run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// An actor ended, by a panic or by itself.
    #[error("actor {actor} ended: {reason}")]
    Actor {
        /// Which.
        actor: &'static str,
        /// The panic's message, or what it gave up on.
        reason: String,
    },
    /// The group could not start or go on; a new generation may.
    #[error("{0}")]
    Group(String),
    /// No restart can help: another process has this `instance_id` (exit code 5).
    #[error("fenced: {0}")]
    Fenced(String),
}

/// The actors of a generation. Dropping it ends them all.
#[derive(Debug, Default)]
pub struct ActorSet {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl ActorSet {
    /// Starts an actor on this thread's system. Its end, a panic included, is seen by
    /// [`ActorSet::ended`]: an actix `Supervisor` does not survive a panic.
    pub fn start<A>(&mut self, name: &'static str, context: Context<A>, actor: A) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
    {
        use actix::AsyncContext;
        let address = context.address();
        let handle = self.tasks.spawn_local(context.into_future(actor));
        self.names.insert(handle.id(), name);
        address
    }

    /// Watches a task that belongs to an actor as if it were one.
    pub fn watch(&mut self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        let handle = self.tasks.spawn_local(task);
        self.names.insert(handle.id(), name);
    }

    /// Waits for the first actor to end, and says which and how. Pends for ever where none is left.
    pub async fn ended(&mut self) -> Failure {
        let Some(outcome) = self.tasks.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (id, reason) = match outcome {
            Ok((id, ())) => (id, "it returned".to_owned()),
            Err(error) => (error.id(), panic_text(error)),
        };
        Failure::Actor {
            actor: self.names.get(&id).copied().unwrap_or("unknown"),
            reason,
        }
    }

    /// Ends all actors and waits until they are gone.
    pub async fn shut_down(&mut self) {
        self.tasks.shutdown().await;
    }
}

impl Generation {
    /// The life sign of one of its actors.
    pub fn pulse(&self, actor: &'static str) -> Arc<Pulse> {
        self.group.pulse(actor)
    }

    /// The log with the field `actor`.
    pub fn log_of(&self, actor: &'static str) -> slog::Logger {
        self.log.new(slog::o!("actor" => actor))
    }
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => format!("panicked: {}", panic_message(payload.as_ref())),
        Err(error) => error.to_string(),
    }
}

/// The message of a caught panic.
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is no text")
}

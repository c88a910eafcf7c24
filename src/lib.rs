//! groundtrack lands a Kafka topic in an object store as plain Parquet, exactly once.
//!
//! ```text
//! Open Notify --HTTP--> poller --Sample--> publisher --> Kafka topic
//!                                                            |
//!   checkpoints/   <-- checkpoint <--Landed-- uploader <-+- Batch -- accumulator <--RowBlock-- flattener <--RecordBlock-- subscriber
//!   parquet_files/ <----------------------------'
//! ```
//!
//! The guarantees:
//! - every record of the topic is in exactly one object: a row of a data file, or a dead letter;
//! - a checkpoint in the bucket, replaced only by compare-and-swap, decides what has landed; the
//!   offset committed to Kafka is a courtesy to tools that show lag;
//! - nothing is skipped in silence: where Kafka and the checkpoint disagree, that partition stops
//!   and says why, and the others go on.
//!
//! The modules, in the order of the data: [`ingest`] (poller, publisher), [`landing`]
//! (subscriber, flattener, accumulator, uploader, checkpoint) and [`store`]. Around them:
//! [`config`], [`supervisor`], [`signals`], [`notify`], [`logging`], [`status`], [`web`],
//! [`control`], [`cli`], [`demo`].
#![deny(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unsafe_code
)]
#![deny(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod adopt;
pub mod budget;
pub mod check;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod demo;
pub mod fault;
pub mod generation;
pub mod infer;
pub mod ingest;
pub mod inventory;
pub mod kafka;
pub mod landing;
pub mod logging;
pub mod messages;
pub mod notify;
pub mod signals;
pub mod status;
pub mod store;
pub mod supervisor;
#[cfg(test)]
mod testing;
pub mod verify;
pub mod web;

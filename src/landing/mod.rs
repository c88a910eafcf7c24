//! Landing: from the topic to objects in the store, each record exactly once.
//!
//! In the order of the data: [`subscriber`], [`flattener`], [`accumulator`], [`uploader`],
//! [`checkpoint`].
//! [`protocol`] decides; the actors do what it says.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod accumulator;
pub mod broker;
pub mod checkpoint;
pub mod claims;
pub(crate) mod consumer;
pub(crate) mod cpu;
pub mod decoder;
pub mod flattener;
pub mod folders;
pub mod kafka_broker;
pub mod layout;
pub mod ledger;
pub mod offsets;
pub mod open_batch;
pub mod parquet_file;
pub(crate) mod partition;
pub mod patience;
mod place;
pub mod protocol;
pub(crate) mod queue;
pub(crate) mod reader;
pub(crate) mod rebalance;
pub(crate) mod retention;
mod run;
pub(crate) mod session;
pub mod stages;
pub(crate) mod standstill;
pub mod subscriber;
pub(crate) mod topic_id;
pub mod uploader;

pub use self::run::run;

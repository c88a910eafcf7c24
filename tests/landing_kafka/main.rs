//! The real binary lands from a real Kafka into a folder, and every offset that a read_committed
//! reader sees is looked for in the files: once, as a row or as a dead letter.
//!
//! `tests/servers/servers.py run --only kafka -- cargo test --test landing_kafka -- --ignored`

mod caught_up;
#[path = "../common/mod.rs"]
mod common;
mod ends;
mod log;
mod protocols;
mod starts;
mod topic;

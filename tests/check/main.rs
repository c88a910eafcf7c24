//! `groundtrack check` against servers that hang, and against real ones: a Kafka with access-control
//! lists and listeners that have one thing wrong each, and a MinIO with policies.
//!
//! `tests/servers/servers.py run --only kafka,kafka-secure,minio -- cargo test --test check --
//! --ignored`

mod beside;
#[path = "../common/mod.rs"]
mod common;
mod hanging;
mod place;
mod rights;
mod tls;
mod topic;

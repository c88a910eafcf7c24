//! The real binary with a Kafka that asks for a password and a certificate, and a bucket that asks
//! for a role: no secret is seen anywhere, and a password that is changed takes effect.
//!
//! `tests/servers/servers.py run --only kafka-secure,minio -- cargo test --test secrets -- --ignored`

#[path = "../common/mod.rs"]
mod common;
mod core_dump;
mod relay;
mod rotation;
mod secure;
mod seen;

//! What the tests on real servers share: a topic, a group and a folder of each test's own
//! ([`Rig`]), who produces ([`Source`], [`Stream`]), and the process ([`Member`]).

// Each test target uses a part of it.
#![allow(dead_code, unused_imports)]

mod member;
mod own_kafka;
mod rig;
mod source;

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;

pub use member::Member;
pub use own_kafka::OwnKafka;
pub use rig::{Rig, Setup, footers};
pub use source::{Source, Stream};

/// No event takes so long unless it never comes.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// How often a file or a broker is looked at.
pub const LOOK: Duration = Duration::from_millis(50);
/// The shortest session that the broker allows under the classic protocol.
pub const SESSION: (&str, &str) = ("session.timeout.ms", "6000");
pub const EAGER: &[(&str, &str)] = &[SESSION];
pub const COOPERATIVE: &[(&str, &str)] = &[
    SESSION,
    ("partition.assignment.strategy", "cooperative-sticky"),
];
pub const KIP_848: &[(&str, &str)] = &[("group.protocol", "consumer")];
pub const STATIC: &str = "host-1";

pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(LOOK);
    }
}
/// Where the Kafka of all tests listens.
pub fn brokers() -> String {
    std::env::var("GROUNDTRACK_TEST_KAFKA")
        .expect("GROUNDTRACK_TEST_KAFKA: start it by tests/servers/servers.py")
}

fn client(brokers: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers);
    client
}

//! The consumer as it is made: what is ours of its configuration, and its share of the budget.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use rdkafka::error::KafkaResult;

use crate::kafka::client_config;
use crate::landing::consumer::member::Member;
use crate::landing::consumer::{Thread, ThreadParts};
use crate::landing::partition::Purse;
use crate::landing::rebalance::Context;

/// librdkafka's share of the budget, with what each message takes in it beside its bytes: its
/// limit counts the bytes alone.
const QUEUE_SHARE: u64 = 8;
/// Of that share, what the bytes may take: a small queue stays in the processor's cache, and with
/// a short fetch back-off is never empty (measured: a third less CPU than with eight times as
/// much).
const QUEUE_BYTES_SHARE: u64 = 8;
/// Messages that librdkafka keeps ahead: about half a KiB each beside their bytes.
const QUEUE_MESSAGES: &str = "10000";
/// Of one partition and fetch, unless a single batch is larger.
const FETCH_BYTES_MAX: u64 = 256 << 10;
/// How often librdkafka tells watermarks and connections.
const STATISTICS_INTERVAL_MS: u32 = 5000;

impl<'a> Thread<'a> {
    pub(super) fn start(parts: &'a mut ThreadParts) -> KafkaResult<Self> {
        let kafka = &parts.config.kafka;
        let share_bytes = parts.config.limits.memory_bytes / QUEUE_SHARE;
        let mut client = client_config(kafka);
        let queue_kbytes = client
            .get("queued.max.messages.kbytes")
            .and_then(|text| text.parse::<u64>().ok());
        let queue_bytes =
            queue_kbytes.map_or(share_bytes / QUEUE_BYTES_SHARE, |kbytes| kbytes * 1024);
        let fetch_bytes = FETCH_BYTES_MAX.min(queue_bytes / 2);
        let defaults = [
            (
                "queued.max.messages.kbytes",
                (queue_bytes / 1024).to_string(),
            ),
            ("queued.min.messages", QUEUE_MESSAGES.to_owned()),
            // A second of waiting, the default, each time the queue is full makes a fast reader
            // ten times slower.
            ("fetch.queue.backoff.ms", "10".to_owned()),
            ("max.partition.fetch.bytes", fetch_bytes.to_string()),
        ];
        for (name, value) in defaults {
            if client.get(name).is_none() {
                client.set(name, value);
            }
        }
        client
            .set("group.id", &kafka.group)
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "false")
            .set("statistics.interval.ms", STATISTICS_INTERVAL_MS.to_string());
        if let Some(id) = &parts.instance_id {
            client.set("group.instance.id", id);
        }
        let context = Context::new(&kafka.topic, parts.log.clone());
        let member = Member::join(&client, context, &kafka.topic)?;
        let purse = Purse::new(parts.budget.clone(), share_bytes.max(queue_bytes));
        // The consumer before this one was draining.
        let is_draining = parts.blocks.is_none();
        Ok(Self {
            parts,
            member,
            purse,
            partitions: BTreeMap::new(),
            outbox: VecDeque::new(),
            stalled: None,
            is_draining,
            revoking: None,
            positions_at: Instant::now(),
            wake_from: Instant::now(),
            is_busy: false,
            has_joined: false,
            is_heard: true,
        })
    }
}

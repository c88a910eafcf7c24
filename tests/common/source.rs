//! Who produces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{PATIENCE, Rig};

pub struct Source {
    pub topic: String,
    pub producer: BaseProducer,
}

impl Source {
    pub fn new(topic: &str, config: &ClientConfig) -> Self {
        Self {
            topic: topic.to_owned(),
            producer: config.create().unwrap(),
        }
    }

    /// One record; every fiftieth cannot be decoded.
    pub fn send(&self, partition: i32, number: usize) {
        let body = body(number);
        let record = BaseRecord::<str, str>::to(&self.topic);
        self.offer(record.partition(partition).payload(&body));
    }

    fn offer(&self, mut record: BaseRecord<'_, str, str>) {
        while let Err((error, back)) = self.producer.send(record) {
            let full =
                error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull);
            assert!(full, "{error}");
            self.producer.poll(Duration::from_millis(10));
            record = back;
        }
    }

    /// So many records to partition 0, with so many different keys.
    pub fn fill_keyed(&self, count: usize, keys: usize) {
        for number in 0..count {
            let key = format!("key-{}", number % keys);
            let record = BaseRecord::<str, str>::to(&self.topic);
            self.offer(record.partition(0).key(&key).payload("{}"));
        }
        self.flush();
    }

    /// One record of this time to partition 0.
    pub fn send_at(&self, timestamp_ms: i64, number: usize) {
        let body = body(number);
        let record = BaseRecord::<str, str>::to(&self.topic).partition(0);
        self.offer(record.payload(&body).timestamp(timestamp_ms));
        self.flush();
    }

    /// So many records to one partition, acknowledged.
    pub fn fill_one(&self, partition: i32, count: usize) {
        for number in 0..count {
            self.send(partition, number);
        }
        self.flush();
    }

    /// So many records to each of the partitions, acknowledged.
    pub fn fill(&self, partitions: i32, each: usize) {
        for number in 0..each {
            for partition in 0..partitions {
                self.send(partition, number);
            }
        }
        self.flush();
    }

    pub fn flush(&self) {
        self.producer.flush(PATIENCE).unwrap();
    }

    pub fn transaction(&self, partitions: i32, each: usize, commit: bool) {
        self.producer.begin_transaction().unwrap();
        self.fill(partitions, each);
        match commit {
            true => self.producer.commit_transaction(PATIENCE).unwrap(),
            false => self.producer.abort_transaction(PATIENCE).unwrap(),
        }
    }
}

/// Produces until it is told to stop.
pub struct Stream {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Stream {
    pub fn start(rig: &Rig, partitions: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (source, stopped) = (rig.producer(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                for partition in 0..partitions {
                    source.send(partition, number);
                }
                number += 1;
                // About a thousand a second and partition: a flow, not a flood.
                source.producer.poll(Duration::from_millis(1));
            }
            source.flush();
        });
        Self { stop, thread }
    }

    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// A record's value; every fiftieth cannot be decoded.
fn body(number: usize) -> String {
    match number % 50 {
        49 => "not json".to_owned(),
        _ => format!(
            r#"{{"message":"success","timestamp":{},"iss_position":{{"latitude":"1.5","longitude":"-2.25"}}}}"#,
            1_700_000_000 + number
        ),
    }
}

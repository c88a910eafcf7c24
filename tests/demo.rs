//! The demo as a whole, with a landing that only pretends: what it says, that its source and its
//! broker work, and that it ends.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use groundtrack::cli::Demo;
use groundtrack::config::{Config, StoreLocation};
use groundtrack::demo;
use groundtrack::generation::{End, Failure, Generation};
use groundtrack::status::LandedFile;
use groundtrack::supervisor::{ExitReason, Group, GroupName};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::{Offset, TopicPartitionList};

/// No event takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the demo said.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A reader that has gone.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options(dir: &Path, duration: Option<Duration>) -> Demo {
    Demo {
        dir: dir.join("made/by/the/demo"),
        listen: ([127, 0, 0, 1], 0).into(),
        duration,
        fail: Vec::new(),
    }
}

/// The first record of the topic.
fn first_record(config: &Config) -> OwnedMessage {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", config.kafka.brokers.join(","))
        .set("group.id", "pretender")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(&config.kafka.topic, 0, Offset::Offset(0))
        .unwrap();
    consumer.assign(&from).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no record");
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            return message.detach();
        }
    }
}

/// Lands one file, of which only the checkpoint's folder is real, and waits for the drain.
async fn pretend(generation: Generation) -> Result<End, Failure> {
    let config = generation.config.clone();
    let record = tokio::task::spawn_blocking(move || first_record(&config))
        .await
        .unwrap();
    let body: serde_json::Value = serde_json::from_slice(record.payload().unwrap()).unwrap();
    assert_eq!(body["message"], "success");
    let StoreLocation::File(dir) = &generation.config.store.location else {
        panic!("no folder");
    };
    let topic = &generation.config.kafka.topic;
    std::fs::create_dir_all(dir.join("checkpoints/demo").join(topic)).unwrap();
    generation.status.landed(LandedFile {
        key: format!("parquet_files/{topic}.parquet"),
        rows: 1,
        bytes: 1000,
        landed_at_ms: 0,
    });
    generation.drain.cancelled().await;
    Ok(End::Drained)
}

fn groups() -> Vec<Group> {
    vec![
        Group::new(GroupName::Ingest, groundtrack::ingest::run),
        Group::new(GroupName::Landing, pretend),
        Group::new(GroupName::Web, groundtrack::web::run),
    ]
}

fn topics(dir: &Path) -> Vec<PathBuf> {
    let checkpoints = dir.join("made/by/the/demo/checkpoints/demo");
    let entries = std::fs::read_dir(checkpoints).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn it_says_where_everything_is_and_what_lands_and_goes_on_in_the_same_folder() {
    let dir = tempfile::tempdir().unwrap();
    for start in 1..=2 {
        let said = Said::default();
        let options = options(dir.path(), Some(Duration::from_secs(1)));
        let ended = demo::run_to(options, groups(), said.clone()).unwrap();
        assert_eq!(ended, ExitReason::Drained);
        let text = said.text();
        let whole = dir.path().canonicalize().unwrap().join("made/by/the/demo");
        let files = whole.join("parquet_files");
        for part in [
            "simulated",
            files.to_str().unwrap(),
            "page    http://127.0.0.1:",
            "1 row, 1000 bytes  parquet_files/iss-",
            "1 file with 1 row landed",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(topics(dir.path()).len(), start);
    }
}

#[test]
fn it_ends_when_nobody_reads_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let ended = demo::run_to(options(dir.path(), None), groups(), Gone).unwrap();
    assert_eq!(ended, ExitReason::Drained);
}

#[test]
fn a_folder_that_cannot_be_made_is_said() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("made"), "a file").unwrap();
    let error = demo::run_to(options(dir.path(), None), groups(), Gone).unwrap_err();
    assert!(error.to_string().contains("folder"), "{error}");
}

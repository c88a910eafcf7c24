//! A Kafka of one test's own, which it may stop and damage: the one that the tests share stays up.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The header of a batch of records, up to the records.
const HEADER_BYTES: usize = 61;

pub struct OwnKafka {
    folder: tempfile::TempDir,
}

impl OwnKafka {
    pub fn start() -> Self {
        let kafka = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        kafka.tell("start");
        kafka
    }

    pub fn brokers(&self) -> String {
        let port = std::fs::read_to_string(self.folder.path().join("kafka/port")).unwrap();
        format!("127.0.0.1:{port}")
    }

    pub fn kill(&self) {
        self.tell("kill");
    }

    /// A clean end, after which its logs are not looked through.
    pub fn stop(&self) {
        self.tell("stop");
    }

    /// Starts it again, where and with what it had.
    pub fn start_again(&self) {
        self.tell("start");
    }

    fn tell(&self, action: &str) {
        let done = control(self.folder.path(), action).status().unwrap();
        assert!(done.success(), "{action} kafka");
    }

    fn log(&self, topic: &str) -> PathBuf {
        self.folder.path().join(format!("kafka/data/{topic}-0"))
    }

    /// While it is stopped: the log of partition 0 is lost, the topic's id is not.
    pub fn empty(&self, topic: &str) {
        for entry in std::fs::read_dir(self.log(topic)).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() != "partition.metadata" {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    /// While it is stopped: harms the batch of partition 0 that holds this offset; returns the
    /// offsets [from, to) of the batch.
    pub fn damage(&self, topic: &str, offset: i64, harm: impl Fn(&mut [u8])) -> [i64; 2] {
        let path = self.log(topic).join("00000000000000000000.log");
        let bytes = std::fs::read(&path).unwrap();
        let mut at = 0;
        loop {
            let number = |from: usize, count: usize| {
                let bytes = &bytes[at + from..at + from + count];
                bytes
                    .iter()
                    .fold(0i64, |number, byte| number << 8 | i64::from(*byte))
            };
            // baseOffset, batchLength (from behind itself), lastOffsetDelta.
            let (from, length, delta) = (number(0, 8), number(8, 4) as usize + 12, number(23, 4));
            assert!(length > HEADER_BYTES, "no batch holds offset {offset}");
            let to = from + delta + 1;
            if (from..to).contains(&offset) {
                let mut batch = bytes[at..at + length].to_vec();
                harm(&mut batch);
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(&batch, at as u64).unwrap();
                return [from, to];
            }
            at += length;
        }
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        let _ = control(self.folder.path(), "kill").status();
    }
}

fn control(folder: &Path, action: &str) -> Command {
    let script = std::env::var("GROUNDTRACK_TEST_CONTROL")
        .expect("GROUNDTRACK_TEST_CONTROL: start it by tests/servers/servers.py");
    let mut command = Command::new("python3");
    command
        .arg(script)
        .args([action, "kafka"])
        .env("GROUNDTRACK_TEST_SERVERS", folder);
    command
}

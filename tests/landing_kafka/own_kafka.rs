//! A Kafka of one test's own, which it may stop: the one that the tests share stays up.

use std::path::Path;
use std::process::Command;

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

    /// Starts it again, where and with what it had.
    pub fn start_again(&self) {
        self.tell("start");
    }

    fn tell(&self, action: &str) {
        let done = control(self.folder.path(), action).status().unwrap();
        assert!(done.success(), "{action} kafka");
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

//! The process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::{LOOK, PATIENCE};

type Lines = Arc<(Mutex<Vec<Value>>, Condvar)>;

pub struct Member {
    child: Child,
    lines: Lines,
}

impl Member {
    pub fn start(config: &Path, more: &[&str], faults: &str) -> Self {
        Self::start_in(config, more, &[("GROUNDTRACK_FAULTS", faults)])
    }

    /// With these variables set.
    pub fn start_in(config: &Path, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_groundtrack"))
            .args(["run", "--config"])
            .arg(config)
            .args(more)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Lines::default();
        let (from, to) = (child.stderr.take().unwrap(), lines.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                // A panic of the process may say more than its log.
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                to.0.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
                to.1.notify_all();
            }
        });
        Self { child, lines }
    }

    /// Waits for the n-th line with this message (from 1); returns it.
    pub fn wait_for(&self, message: &str, count: usize) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines();
        loop {
            let mut found = lines.iter().filter(|line| line["msg"] == message);
            if let Some(line) = found.nth(count - 1) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{message:?} was not said");
            lines = self.lines.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Also after a test has failed while it held them.
    pub fn lines(&self) -> MutexGuard<'_, Vec<Value>> {
        self.lines.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that it said with this message.
    pub fn said(&self, message: &str) -> Vec<Value> {
        let lines = self.lines();
        let said = lines.iter().filter(|line| line["msg"] == message);
        said.cloned().collect()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it wrote.
    pub fn text(&self) -> String {
        text(&self.lines())
    }

    pub fn has_said(&self, message: &str) -> bool {
        let lines = self.lines();
        lines.iter().any(|line| line["msg"] == message)
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// What the page answers at this path.
    pub fn get_text(&self, path: &str) -> Option<String> {
        let address = {
            let lines = self.lines();
            // A reload may have moved it to another port.
            let listens = |line: &&Value| line["msg"] == "page listens";
            let line = lines.iter().rev().find(listens)?;
            line["address"].as_str()?.to_owned()
        };
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some(body.to_owned())
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        serde_json::from_str(&self.get_text(path)?).ok()
    }

    /// What `/api/status` says of a partition.
    pub fn partition_status(&self, partition: i32) -> Option<Value> {
        let status = self.get("/api/status")?;
        let all = status["partitions"].as_array()?;
        all.iter()
            .find(|one| one["partition"] == partition)
            .cloned()
    }

    /// The next offset that it reads of a partition.
    pub fn position(&self, partition: i32) -> Option<i64> {
        self.partition_status(partition)?["position"].as_i64()
    }

    pub fn exit_code(&mut self) -> i32 {
        let ended = {
            let deadline = Instant::now() + PATIENCE;
            loop {
                match self.child.try_wait().unwrap() {
                    Some(status) => break Some(status),
                    None if Instant::now() > deadline => break None,
                    None => std::thread::sleep(LOOK),
                }
            }
        };
        let code = ended.expect("does not end").code().unwrap_or(-1);
        if code != 0 {
            eprintln!("exit code {code}\n{}", text(&self.lines()));
        }
        code
    }

    /// A clean end.
    pub fn drain(mut self) {
        self.signal("-TERM");
        assert_eq!(self.exit_code(), 0);
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", text(&self.lines()));
        }
    }
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

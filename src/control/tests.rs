//! The socket of a whole process whose landing is a fake.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::client::AskError;
use super::*;
use crate::config::Config;
use crate::generation::{End, Generation};
use crate::logging::LevelSwitch;
use crate::status::Status;
use crate::supervisor::reload::{Answer, GroupState, reloads};
use crate::supervisor::{ExitReason, Plan, supervise};

/// No event takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Process {
    _folder: Option<tempfile::TempDir>,
    socket: PathBuf,
    on_disk: Arc<Mutex<Result<Config, Vec<String>>>>,
    status: Arc<Status>,
    shutdown: CancellationToken,
    thread: JoinHandle<ExitReason>,
}

async fn land(generation: Generation) -> crate::supervisor::Outcome {
    generation.drain.cancelled().await;
    Ok(End::Drained)
}

fn config(socket: &Path) -> Config {
    let mut config = crate::testing::config();
    config.status.socket = Some(socket.to_owned());
    config.supervision.backoff = Duration::from_millis(5);
    config.supervision.backoff_max = Duration::from_millis(20);
    config
}

impl Process {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("groundtrack.sock");
        let mut process = Self::start_with(config(&socket), Surroundings::default());
        process._folder = Some(folder);
        process.wait_for_socket();
        process
    }

    fn start_with(config: Config, surroundings: Surroundings) -> Self {
        let socket = config.status.socket.clone().unwrap_or_default();
        let (reloader, reloads) = reloads();
        let (status, shutdown) = (Status::new(), CancellationToken::new());
        let on_disk = Arc::new(Mutex::new(Ok(config.clone())));
        let load = on_disk.clone();
        let plan = Plan {
            groups: vec![
                Group::new(GroupName::Landing, land),
                group(surroundings, reloader),
            ],
            level: LevelSwitch::new(config.log.level),
            config,
            load: Box::new(move || load.lock().unwrap().clone()),
            status: status.clone(),
            log: slog::Logger::root(slog::Discard, slog::o!()),
            signals: tokio::sync::mpsc::channel(1).1,
            notifier: crate::notify::Notifier::silent(),
            reloads,
            shutdown: shutdown.clone(),
            until_caught_up: false,
            gone_within: PATIENCE,
        };
        Self {
            _folder: None,
            socket,
            on_disk,
            status,
            shutdown,
            thread: std::thread::spawn(move || supervise(plan)),
        }
    }

    fn wait_for_socket(&self) {
        until("a socket", || self.socket.exists());
    }

    fn candidates(&self) -> Vec<PathBuf> {
        vec![self.socket.clone()]
    }

    fn ends(self) {
        self.shutdown.cancel();
        assert_eq!(self.thread.join().unwrap(), ExitReason::Drained);
        assert!(!self.socket.exists());
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for a place among those who wait to be accepted.
async fn connect(socket: &Path) -> UnixStream {
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tokio::task::yield_now().await;
            }
            connected => return connected.unwrap(),
        }
    }
}

/// Sends these bytes, ends its side or not, and reads to the end.
async fn say(socket: &Path, bytes: &[u8], ends: bool) -> String {
    let mut stream = connect(socket).await;
    stream.write_all(bytes).await.unwrap();
    if ends {
        stream.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
    // What was not read of a request that is too long resets the connection behind the answer.
    let _ = read.await.expect("the connection stays open");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_status_over_the_socket_is_the_pages_document() {
    let process = Process::start();
    process.status.trouble("source", "it is frozen", false);
    let document: Value = client::status(&process.candidates()).await.unwrap();
    assert_eq!(document["health"], "degraded");
    assert_eq!(document["troubles"][0]["text"], "it is frozen");
    let groups = document["groups"].as_array().unwrap();
    let names: Vec<&str> = groups
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["control", "landing"]);
    process.ends();
}

#[tokio::test]
async fn a_reload_over_the_socket_waits_for_its_answer() {
    let process = Process::start();
    let mut new = config(&process.socket);
    new.files.max_rows += 1;
    *process.on_disk.lock().unwrap() = Ok(new);
    let Answer::Applied(applied) = client::reload(&process.candidates()).await.unwrap() else {
        panic!("not applied");
    };
    assert_eq!(applied.restarted[0].state, GroupState::Started);
    let generation = &process.status.group("landing").generation;
    assert_eq!(generation.load(std::sync::atomic::Ordering::Relaxed), 2);

    let mistakes = vec!["groundtrack.toml:3: files.max_rows".to_owned()];
    *process.on_disk.lock().unwrap() = Err(mistakes.clone());
    let refused = client::reload(&process.candidates()).await.unwrap();
    assert_eq!(refused, Answer::Refused { mistakes });
    process.ends();
}

#[tokio::test]
async fn a_reload_that_moves_the_socket_is_answered_over_the_old_one() {
    let process = Process::start();
    let elsewhere = process.socket.with_file_name("elsewhere.sock");
    *process.on_disk.lock().unwrap() = Ok(config(&elsewhere));
    let Answer::Applied(applied) = client::reload(&process.candidates()).await.unwrap() else {
        panic!("not applied");
    };
    assert_eq!(applied.restarted[0].group, "control");
    until("the new socket", || elsewhere.exists());
    client::status(std::slice::from_ref(&elsewhere))
        .await
        .unwrap();
    until("the old socket is gone", || !process.socket.exists());
    process.ends();
}

#[tokio::test]
async fn hostile_clients_get_nowhere() {
    let process = Process::start();
    let long = [b'x'; 100_000];
    for (bytes, ends) in [
        (&b"\n"[..], false),
        (b"stop\n", false),
        (
            b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
            false,
        ),
        (b"\xff\x00\xfe\n", false),
        (b"", true),
        (b"statu", true),
        (b"status \n", false),
        (&[b' '; 64], false),
    ] {
        let answer = say(&process.socket, bytes, ends).await;
        let words = "there are two commands";
        assert!(
            answer.starts_with("{\"error\":") && answer.contains(words),
            "{answer}"
        );
    }
    let answer = tokio::time::timeout(PATIENCE, async {
        let mut stream = connect(&process.socket).await;
        // It may be cut before it has said all.
        let _ = stream.write_all(&long).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    });
    answer.await.expect("a long request is cut");
    client::status(&process.candidates()).await.unwrap();
    process.ends();
}

/// More of them than there are places: each loses its own after its time.
#[tokio::test]
async fn silent_clients_do_not_keep_others_out() {
    let process = Process::start();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(connect(&process.socket).await);
    }
    let answer = say(&process.socket, b"status\n", false).await;
    assert!(answer.starts_with("{\"version\":"), "{answer}");
    process.ends();
}

#[tokio::test]
async fn who_never_reads_the_answer_does_not_hold_up_the_end() {
    let process = Process::start();
    for partition in 0..5000 {
        process.status.partition("a-topic", partition);
    }
    let mut deaf = connect(&process.socket).await;
    deaf.write_all(b"status\n").await.unwrap();
    process.ends();
}

#[tokio::test]
async fn a_second_process_is_told_and_the_first_goes_on() {
    let process = Process::start();
    let second = Process::start_with(config(&process.socket), Surroundings::default());
    until("the trouble is said", || {
        let troubles = second.status.troubles();
        troubles.iter().any(|(place, trouble)| {
            place == "group control" && trouble.text.contains("another process answers on it")
        })
    });
    client::status(&process.candidates()).await.unwrap();
    let generation = &second.status.group("landing").generation;
    assert_eq!(generation.load(std::sync::atomic::Ordering::Relaxed), 1);
    second.shutdown.cancel();
    assert_eq!(second.thread.join().unwrap(), ExitReason::Drained);
    assert!(process.socket.exists());
    process.ends();
}

#[tokio::test]
async fn where_nobody_relies_on_a_socket_none_is_no_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut config = crate::testing::config();
    config.supervision.backoff = Duration::from_millis(5);
    let surroundings = Surroundings {
        xdg_runtime_dir: Some(file),
        ..Surroundings::default()
    };
    let process = Process::start_with(config, surroundings);
    let group = process.status.group("control");
    until("the group waits", || {
        group
            .actors()
            .iter()
            .any(|(_, pulse)| pulse.waits_for() == "requests")
    });
    assert!(process.status.troubles().is_empty());
    process.shutdown.cancel();
    assert_eq!(process.thread.join().unwrap(), ExitReason::Drained);
}

#[tokio::test]
async fn where_nobody_listens_nothing_runs() {
    let folder = tempfile::tempdir().unwrap();
    let dead = folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let absent = folder.path().join("absent/groundtrack.sock");
    let error = client::status(&[dead, absent.clone()]).await.unwrap_err();
    assert!(matches!(error, AskError::NotRunning(_)), "{error}");
    assert!(
        error.to_string().contains(&absent.display().to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn a_process_that_ends_before_its_answer_is_said_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("groundtrack.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let asked = tokio::spawn(async move { client::reload(&[path]).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"{\"outcome\":\"appl").await.unwrap();
    drop(stream);
    let error = asked.await.unwrap().unwrap_err();
    assert!(matches!(error, AskError::Ended { .. }), "{error}");
}

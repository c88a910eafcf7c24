//! The binary as a user meets it: exit codes, what goes to stdout and what to stderr. Needs no
//! server and no network.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A folder of its own, and the binary with a clean environment.
struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_groundtrack"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Ten mistakes of ten kinds, and the word that each line has to hold.
const MISTAKES: [(&str, &str); 10] = [
    ("[source]\nurl = \"ftp://example.org\"\n", "source.url"),
    ("interval = \"5\"\n", "source.interval"),
    ("[kafka]\nbrokers = []\n", "kafka.brokers"),
    ("topc = \"project_topic\"\n", "kafka.topic"),
    (
        "[kafka.options]\n\"enable.auto.commit\" = true\n",
        "enable.auto.commit",
    ),
    ("[files]\nmax_rows = 0\n", "files.max_rows"),
    ("max_bytes = \"1GiB\"\n", "files.max_bytes"),
    ("compression = \"zip\"\n", "files.compression"),
    ("[store]\nurl = 7\n", "store.url"),
    ("data = \"checkpoints\"\n", "store."),
];

#[test]
fn ten_mistakes_of_ten_kinds_are_ten_lines_and_exit_code_2() {
    let sandbox = Sandbox::new();
    let text: String = MISTAKES.iter().map(|(line, _)| *line).collect();
    sandbox.file("wrong.toml", &text);
    for command in ["run", "check"] {
        let output = sandbox.run(&[command, "--config", "wrong.toml"]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let lines: Vec<&str> = stderr(&output).lines().collect();
        assert_eq!(lines.len(), MISTAKES.len(), "{lines:#?}");
        for (line, (_, word)) in lines.iter().zip(MISTAKES) {
            assert!(line.starts_with("wrong.toml:"), "{line}");
            assert!(line.contains(word), "{line}: {word}");
        }
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn a_mistake_in_an_override_says_where_it_came_from() {
    let sandbox = Sandbox::new();
    sandbox.file("empty.toml", "");
    let output = sandbox
        .command(&["run", "--config", "empty.toml", "--set", "files.max_rows=0"])
        .env("GROUNDTRACK_LIMITS__MEMORY", "1MiB")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let lines = stderr(&output);
    assert!(lines.contains("GROUNDTRACK_LIMITS__MEMORY: "), "{lines}");
    assert!(lines.contains("--set: files.max_rows"), "{lines}");
}

#[test]
fn the_version_names_the_commit_and_librdkafka() {
    let output = Sandbox::new().run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let version = stdout(&output);
    assert!(version.starts_with("groundtrack "), "{version}");
    assert!(version.contains("(commit "), "{version}");
    assert!(version.contains("librdkafka 2."), "{version}");
}

#[test]
fn help_is_no_failure() {
    let output = Sandbox::new().run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for command in [
        "run", "demo", "check", "verify", "infer", "adopt", "reload", "status",
    ] {
        assert!(stdout(&output).contains(command), "{command}");
    }
}

#[test]
fn arguments_that_are_not_known_are_exit_code_2() {
    let sandbox = Sandbox::new();
    for arguments in [
        &[][..],
        &["verify", "--since", "yesterday"],
        &["run", "--nonsense"],
        &["demo", "--for", "20"],
        &["infer", "a.jsonl", "--topic"],
        &["adopt"],
        &["adopt", "hdfs://n/c"],
    ] {
        let output = sandbox.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        assert_ne!(stderr(&output), "", "{arguments:?}");
    }
}

const SAMPLE: &str = r#"{"message": "success", "iss_position": {"latitude": "-8.7", "longitude": "1.5"}, "timestamp": 1735520478}
no json
"#;

#[test]
fn infer_prints_columns_that_the_configuration_takes() {
    let sandbox = Sandbox::new();
    sandbox.file("sample.jsonl", SAMPLE);
    let output = sandbox.run(&["infer", "sample.jsonl"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let columns = stdout(&output);
    for line in [
        "name = \"timestamp\"",
        "type = \"timestamp(s)\"",
        "path = \"iss_position.latitude\"",
    ] {
        assert!(columns.contains(line), "{columns}");
    }
    assert!(stderr(&output).contains("line 2"), "{}", stderr(&output));

    sandbox.file(
        "proposed.toml",
        &format!("[log]\nlevel = \"nonsense\"\n{columns}"),
    );
    let output = sandbox.run(&["run", "--config", "proposed.toml"]);
    let mistakes: Vec<&str> = stderr(&output).lines().collect();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].contains("log.level"), "{mistakes:?}");
}

#[test]
fn infer_reads_standard_input() {
    let sandbox = Sandbox::new();
    let mut child = sandbox
        .command(&["infer", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(SAMPLE.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("[[table.columns]]"));
}

#[test]
fn infer_without_a_sample_is_exit_code_1() {
    let sandbox = Sandbox::new();
    sandbox.file("none.jsonl", "no json\n");
    for file in ["none.jsonl", "absent.jsonl"] {
        let output = sandbox.run(&["infer", file]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        assert_eq!(stdout(&output), "");
        assert!(stderr(&output).contains(file));
    }
}

/// Port 9 of loopback: nobody listens.
const NOTHING_REACHABLE: &str = r#"
[source]
url = "http://127.0.0.1:9/iss-now.json"
[kafka]
brokers = ["127.0.0.1:9"]
[store]
url = "s3://streaming-bucket-1"
[store.s3]
endpoint = "http://127.0.0.1:9"
path_style = true
"#;

/// What is asked behind the configuration.
const AWAY: [&str; 12] = [
    "source",
    "brokers",
    "topic",
    "read",
    "publish",
    "group",
    "kafka clock",
    "bucket",
    "data",
    "dead_letters",
    "checkpoints",
    "conditions",
];

fn check(sandbox: &Sandbox, arguments: &[&str]) -> Output {
    sandbox
        .command(&["check", "--config", "away.toml"])
        .args(arguments)
        .env("AWS_ACCESS_KEY_ID", "key-id-of-nobody")
        .env("AWS_SECRET_ACCESS_KEY", "secret-of-nobody")
        .output()
        .unwrap()
}

#[test]
fn a_check_against_nothing_reachable_tells_how_to_mend_each() {
    let sandbox = Sandbox::new();
    sandbox.file("away.toml", NOTHING_REACHABLE);
    let output = check(&sandbox, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("ok    configuration"), "{text}");
    for (line, item) in lines[1..].iter().zip(AWAY) {
        assert!(line.starts_with(&format!("FAIL  {item} ")), "{text}");
        assert!(line.contains("; to mend: "), "{text}");
    }
    assert!(text.contains("requests to the store a day"), "{text}");
    assert!(!text.contains("secret-of-nobody"), "{text}");
}

#[test]
fn a_check_prints_one_json_document_when_asked() {
    let sandbox = Sandbox::new();
    sandbox.file("away.toml", NOTHING_REACHABLE);
    let output = check(&sandbox, &["--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["ok"], false);
    let items = document["items"].as_array().unwrap();
    assert_eq!(items.len(), 1 + AWAY.len());
    for item in &items[1..] {
        assert_eq!(item["ok"], false, "{item}");
        assert!(!item["mend"].as_str().unwrap().is_empty(), "{item}");
        assert!(item["took_ms"].is_u64(), "{item}");
    }
    assert!(document["cost"]["files_per_day_max"].as_u64().unwrap() > 0);
}

#[test]
fn a_folder_without_files_has_no_checkpoints_to_rebuild() {
    let sandbox = Sandbox::new();
    let store = sandbox.folder.path().join("store");
    let text = format!("[store]\nurl = \"file://{}\"\n", store.display());
    sandbox.file("lost.toml", &text);
    let output = sandbox.run(&["adopt", "--from-files", "--config", "lost.toml"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("no file of topic"));
    assert!(
        stdout(&output).contains("partition"),
        "the table is printed"
    );
    assert!(!store.exists(), "nothing is written");

    sandbox.file("wrong.toml", "[kafka]\ntopc = \"iss\"\n");
    for arguments in [&["--from-files"][..], &["/nowhere/checkpoints"]] {
        let output = sandbox
            .command(&["adopt", "--config", "wrong.toml"])
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains("kafka.topic"), "{arguments:?}");
    }
}

#[test]
fn what_is_no_checkpoint_folder_is_said_before_kafka_is_asked() {
    let sandbox = Sandbox::new();
    let text = "[kafka]\nbrokers = [\"127.0.0.1:9\"]\n[store]\nurl = \"file:///nowhere\"\n";
    sandbox.file("c.toml", text);
    let output = sandbox.run(&[
        "adopt",
        "checkpoints",
        "--sink",
        "sink",
        "--config",
        "c.toml",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let words = stderr(&output);
    assert!(words.contains("no file `metadata`"), "{words}");
}

/// The process of [`NOTHING_REACHABLE`], with a socket in the sandbox; ended with the test.
struct Running<'a> {
    sandbox: &'a Sandbox,
    child: std::process::Child,
}

/// No event takes so long unless it never comes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

impl<'a> Running<'a> {
    fn start(sandbox: &'a Sandbox) -> Self {
        sandbox.file("service.toml", &service_file(""));
        let child = sandbox
            .command(&["run", "--config", "service.toml"])
            .env("XDG_RUNTIME_DIR", sandbox.folder.path())
            .env("AWS_ACCESS_KEY_ID", "key-id-of-nobody")
            .env("AWS_SECRET_ACCESS_KEY", "secret-of-nobody")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let running = Self { sandbox, child };
        let since = std::time::Instant::now();
        while !running.socket().exists() {
            assert!(since.elapsed() < PATIENCE, "no socket");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        running
    }

    fn socket(&self) -> PathBuf {
        let folder = self.sandbox.folder.path();
        folder.join("groundtrack-service/groundtrack.sock")
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        self.sandbox
            .command(arguments)
            .args(["--config", "service.toml"])
            .env("XDG_RUNTIME_DIR", self.sandbox.folder.path())
            .output()
            .unwrap()
    }

    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        assert!(!self.socket().exists());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Where the test has ended it already there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn service_file(more: &str) -> String {
    format!("{NOTHING_REACHABLE}\n[web]\nlisten = \"\"\n{more}")
}

#[test]
fn a_reload_says_what_has_changed() {
    let sandbox = Sandbox::new();
    let running = Running::start(&sandbox);
    let output = running.ask(&["reload"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "applied: nothing has changed\n");

    sandbox.file(
        "service.toml",
        &service_file("[log]\nlevel = \"warning\"\nformat = \"json\"\n[files]\nmax_rows = 7\n"),
    );
    let output = running.ask(&["reload"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "applied\n  at once: log.level\n  landing restarted: files.max_rows\n  \
         needs a restart of the service, the old value goes on: log.format\n"
    );

    let output = running.ask(&["reload", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["outcome"], "applied");
    assert_eq!(document["needs_restart"][0], "log.format");
    running.end();
}

#[test]
fn a_refused_reload_prints_all_mistakes_and_is_exit_code_2() {
    let sandbox = Sandbox::new();
    let running = Running::start(&sandbox);
    let text: String = MISTAKES.iter().map(|(line, _)| *line).collect();
    sandbox.file("service.toml", &text);
    let output = running.ask(&["reload"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    for (_, word) in MISTAKES {
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
    let output = running.ask(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let troubles = document["troubles"].as_array().unwrap();
    let trouble = troubles.iter().find(|one| one["place"] == "configuration");
    assert!(trouble.is_some(), "{document:#}");
    running.end();
}

/// A `journalctl` that does this.
fn journalctl(sandbox: &Sandbox, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = sandbox.file("journalctl", &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn status_of_nobody(sandbox: &Sandbox) -> String {
    sandbox.file("iss.toml", "[status]\nsocket = \"/nowhere/here.sock\"\n");
    let output = sandbox
        .command(&["status", "--config", "iss.toml"])
        .env("PATH", sandbox.folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(stdout(&output), "");
    let text = stderr(&output).to_owned();
    assert!(
        text.contains("not running: nobody answers at /nowhere/here.sock"),
        "{text}"
    );
    text
}

#[test]
fn what_does_not_run_says_what_its_journal_said_last() {
    let sandbox = Sandbox::new();
    journalctl(
        &sandbox,
        "echo \"$@\"; echo 'groundtrack gives up'; printf '\\033[2J\\n'",
    );
    let text = status_of_nobody(&sandbox);
    let asked = "--unit groundtrack@iss.service --lines 10 --output cat --no-pager --quiet";
    assert!(text.contains(asked), "{text}");
    assert!(text.contains("groundtrack gives up"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn what_does_not_run_and_has_no_journal_says_how_to_look() {
    let sandbox = Sandbox::new();
    let look = "journalctl -u groundtrack@iss.service -e";
    let text = status_of_nobody(&sandbox);
    assert!(
        text.contains("not installed") && text.contains(look),
        "{text}"
    );
    journalctl(&sandbox, "echo 'No journal files were opened' >&2; exit 1");
    let text = status_of_nobody(&sandbox);
    assert!(
        text.contains("this user may read") && text.contains(look),
        "{text}"
    );
    journalctl(&sandbox, "while :; do :; done");
    let text = status_of_nobody(&sandbox);
    assert!(
        text.contains("no answer within 3s") && text.contains(look),
        "{text}"
    );
}

#[test]
fn a_status_is_one_screen_that_says_what_is_wrong_and_what_to_do() {
    let sandbox = Sandbox::new();
    let running = Running::start(&sandbox);
    sandbox.file("service.toml", "nonsense");
    assert_eq!(running.ask(&["reload"]).status.code(), Some(2));
    let output = running.ask(&["status"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("groundtrack 0."), "{text}");
    let pid = format!("pid {}, ", running.child.id());
    for part in [
        pid.as_str(),
        "service.toml",
        "degraded",
        "-> correct the file",
        "landing ",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(text.lines().count() < 24, "{text}");
    running.end();
}

#[test]
fn a_watch_prints_blocks_where_there_is_no_terminal() {
    use std::io::{BufRead, BufReader};
    let sandbox = Sandbox::new();
    let running = Running::start(&sandbox);
    for (arguments, start) in [
        (&["status", "--watch"][..], "groundtrack 0."),
        (&["status", "--watch", "--json"], "{\""),
    ] {
        let mut child = sandbox
            .command(arguments)
            .args(["--config", "service.toml"])
            .env("XDG_RUNTIME_DIR", sandbox.folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let blocks = lines.map(Result::unwrap).filter(|line| {
            assert!(!line.contains('\u{1b}'), "{line:?}");
            line.starts_with(start)
        });
        assert_eq!(blocks.take(2).count(), 2, "{arguments:?}");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let code = child.wait().unwrap().code();
        assert!(matches!(code, Some(0 | 1)), "{code:?}");
    }
    running.end();
}

/// On the other screen, without a cursor, and back at Ctrl-C.
#[test]
fn a_watch_redraws_in_place_and_gives_the_terminal_back() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::io::Read;
    let sandbox = Sandbox::new();
    let running = Running::start(&sandbox);
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let side = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let mut child = sandbox
        .command(&["status", "--watch", "--config", "service.toml"])
        .env("XDG_RUNTIME_DIR", sandbox.folder.path())
        .stdout(side)
        .spawn()
        .unwrap();
    let mut terminal = std::fs::File::from(terminal);
    let mut seen = String::new();
    let mut bytes = [0; 4096];
    let mut read_until = |seen: &mut String, holds: &dyn Fn(&str) -> bool| {
        while !holds(seen) {
            match terminal.read(&mut bytes) {
                Ok(read) if read > 0 => *seen += &String::from_utf8_lossy(&bytes[..read]),
                // The other side is closed, and all was read.
                _ => break,
            }
        }
    };
    read_until(&mut seen, &|seen| {
        seen.matches("\u{1b}[H").count() >= 2 && seen.ends_with("\u{1b}[J")
    });
    assert!(seen.starts_with("\u{1b}[?1049h\u{1b}[?25l"), "{seen:?}");
    assert!(!seen.contains("\u{1b}[?1049l"), "{seen:?}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    child.wait().unwrap();
    read_until(&mut seen, &|_| false);
    let (_, after) = seen
        .split_once("\u{1b}[?25h\u{1b}[?1049l")
        .expect("given back");
    assert!(after.starts_with("groundtrack 0."), "{after:?}");
    running.end();
}

#[test]
fn what_does_not_run_is_exit_code_4_and_says_where_it_was_looked_for() {
    let sandbox = Sandbox::new();
    sandbox.file(
        "service.toml",
        "[status]\nsocket = \"/nowhere/here.sock\"\n",
    );
    for command in ["reload", "status"] {
        let output = sandbox.run(&[command, "--config", "service.toml"]);
        let code = output.status.code();
        assert_eq!(code, Some(4), "{command}");
        assert_eq!(stdout(&output), "");
        let text = stderr(&output);
        assert!(text.contains("/nowhere/here.sock"), "{text}");
        assert!(text.contains("not running"), "{text}");
    }
}

//! `groundtrack verify` as a user meets it: what a real service landed in a folder, beside it while
//! it lands and after each way to tamper with what it landed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// No event takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The embedded service over a folder: it lands a file every few seconds.
struct Service {
    folder: tempfile::TempDir,
    child: Child,
    topic: String,
}

impl Service {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_groundtrack"))
            .args(["demo", "--listen", "127.0.0.1:0", "--for", "60s", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut service = Self {
            folder,
            child,
            topic: String::new(),
        };
        let checkpoints = service.folder.path().join("checkpoints/demo");
        let deadline = Instant::now() + PATIENCE;
        service.topic = loop {
            let first = std::fs::read_dir(&checkpoints)
                .ok()
                .and_then(|mut entries| entries.next());
            if let Some(Ok(entry)) = first {
                break entry.file_name().into_string().unwrap();
            }
            assert!(Instant::now() < deadline, "no checkpoint");
            std::thread::sleep(Duration::from_millis(20));
        };
        std::fs::write(
            service.folder.path().join("verify.toml"),
            format!(
                "[kafka]\nbrokers = [\"127.0.0.1:9\"]\ntopic = {:?}\ngroup = \"demo\"\n[store]\nurl = \"file://{}\"\n",
                service.topic,
                service.folder.path().display()
            ),
        )
        .unwrap();
        service
    }

    fn verify(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_groundtrack"))
            .args(["verify", "--config"])
            .arg(self.folder.path().join("verify.toml"))
            .args(arguments)
            .output()
            .unwrap()
    }

    /// The exit code where nobody reads what it prints.
    fn verify_unread(&self) -> Option<i32> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_groundtrack"))
            .args(["verify", "--config"])
            .arg(self.folder.path().join("verify.toml"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        child.wait().unwrap().code()
    }

    /// The exit code, and the document, which says the same.
    fn document(&self) -> (i32, Value) {
        let output = self.verify(&["--json"]);
        assert_eq!(text(&output.stderr), "");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let code = output.status.code().unwrap();
        let verdict = match code {
            0 => "proven",
            1 => "not proven",
            3 => "disproved",
            code => panic!("{code}: {document:#}"),
        };
        assert_eq!(document["verdict"], verdict);
        (code, document)
    }

    fn next_offset(&self) -> u64 {
        let path = format!("checkpoints/demo/{}/0.json", self.topic);
        let body = std::fs::read(self.folder.path().join(path)).unwrap();
        let checkpoint: Value = serde_json::from_slice(&body).unwrap();
        checkpoint["next_offset"].as_u64().unwrap()
    }

    /// Ends it as a crash does: what was begun stays pending.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The data files in their order.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        walk(&self.folder.path().join("parquet_files"), &mut files);
        files.sort_by_key(|path| path.file_name().unwrap().to_owned());
        files
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => walk(&path, files),
            false => files.push(path),
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn it_is_right_beside_the_service_and_finds_what_is_done_to_its_files() {
    let mut service = Service::start();
    let deadline = Instant::now() + PATIENCE;
    let mut looks = 0;
    // All the while files land; three of them at least.
    while service.files().len() < 4 || service.next_offset() < 3 {
        let (code, document) = service.document();
        assert_eq!(code, 0, "{document:#}");
        looks += 1;
        assert!(Instant::now() < deadline, "nothing lands");
    }
    assert!(looks > 3, "{looks}");
    service.kill();

    let output = service.verify(&[]);
    let proven = text(&output.stdout).to_owned();
    assert_eq!(output.status.code(), Some(0), "{proven}");
    assert!(
        proven.lines().last().unwrap().starts_with("proven: "),
        "{proven}"
    );
    assert!(
        !proven.contains('\u{1b}') && output.stderr.is_empty(),
        "no bar without a terminal"
    );
    assert_eq!(service.verify_unread(), Some(0));
    let (_, whole) = service.document();
    let next_offset = service.next_offset();
    assert_eq!(whole["partitions"][0]["next_offset"], next_offset);

    let file = service.files()[1].clone();
    let aside = service.folder.path().join("aside");
    // Removed.
    std::fs::rename(&file, &aside).unwrap();
    let (code, document) = service.document();
    assert_eq!(code, 3, "{document:#}");
    assert_eq!(document["findings"][0]["kind"], "missing");
    assert_eq!(service.verify_unread(), Some(3));
    let output = service.verify(&[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output.stdout).contains("FAIL  missing  partition 0 ["),
        "{}",
        text(&output.stdout)
    );
    // Removed for its age, by the owner's word.
    let output = service.verify(&["--since", "0s"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(
        text(&output.stdout).contains("proven except "),
        "{}",
        text(&output.stdout)
    );
    let output = service.verify(&["--since", "1970-01-01T00:00:00Z"]);
    assert_eq!(output.status.code(), Some(3));
    // Doubled.
    std::fs::copy(&aside, &file).unwrap();
    let copy = file.with_file_name("copy.parquet");
    std::fs::copy(&aside, &copy).unwrap();
    let (code, document) = service.document();
    assert_eq!(
        (code, &document["findings"][0]["kind"]),
        (3, &"doubled".into()),
        "{document:#}"
    );
    assert!(
        document["findings"][0]["key"]
            .as_str()
            .unwrap()
            .ends_with("/copy.parquet")
    );
    std::fs::remove_file(&copy).unwrap();
    // Damaged.
    let body = std::fs::read(&file).unwrap();
    std::fs::write(&file, &body[..body.len() / 2]).unwrap();
    assert_eq!(service.document().0, 3);
    std::fs::write(&file, &body).unwrap();
    // Somebody else's.
    let theirs = file.with_file_name("notes.txt");
    std::fs::write(&theirs, "by somebody else\n").unwrap();
    let (code, document) = service.document();
    assert_eq!(
        (code, &document["found"]["other"]),
        (0, &1.into()),
        "{document:#}"
    );
    // The checkpoint of another format, and gone.
    let checkpoint = service
        .folder
        .path()
        .join(format!("checkpoints/demo/{}/0.json", service.topic));
    let body = std::fs::read_to_string(&checkpoint).unwrap();
    std::fs::write(&checkpoint, body.replace("\"format\": 1", "\"format\": 2")).unwrap();
    assert_eq!(service.document().0, 1);
    std::fs::remove_file(&checkpoint).unwrap();
    assert_eq!(service.document().0, 3);
    std::fs::write(&checkpoint, body).unwrap();
    assert_eq!(service.document().0, 0);
    // A topic that cannot be read is nothing that is proven.
    let output = service.verify(&["--topic"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(
        text(&output.stdout).contains("NOT PROVEN"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn a_configuration_that_is_wrong_is_exit_code_2_and_a_bucket_that_is_empty_is_1() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.toml");
    let run = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_groundtrack"))
            .args(["verify", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        output.status.code()
    };
    let kafka = "[kafka]\nbrokers = [\"127.0.0.1:9\"]\ntopic = \"t\"\n";
    assert_eq!(
        run(&format!("{kafka}[store]\nurl = \"ftp://x\"\n")),
        Some(2)
    );
    let url = format!(
        "[store]\nurl = \"file://{}/none\"\n",
        folder.path().display()
    );
    assert_eq!(run(&format!("{kafka}{url}")), Some(1));
}

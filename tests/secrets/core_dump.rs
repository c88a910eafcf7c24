//! A process that is aborted leaves no memory behind.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

#[test]
fn an_aborted_process_leaves_no_core_dump() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("service.toml");
    let text = format!(
        "[kafka]\nbrokers = [\"127.0.0.1:9\"]\n[store]\nurl = \"file://{}\"\n[web]\nlisten = \"\"\n\
         [status]\nsocket = \"{}/socket\"\n[log]\nformat = \"json\"\n",
        folder.path().display(),
        folder.path().display(),
    );
    std::fs::write(&config, text).unwrap();
    // As far as this machine allows.
    let mut child = Command::new("sh")
        .args([
            "-c",
            "ulimit -c unlimited 2>/dev/null; exec \"$0\" run --config \"$1\"",
        ])
        .arg(env!("CARGO_BIN_EXE_groundtrack"))
        .arg(&config)
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let started = lines
        .map_while(Result::ok)
        .any(|line| line.contains("groundtrack starts"));
    assert!(started);
    let id = child.id().to_string();
    let killed = Command::new("kill").args(["-ABRT", &id]).status().unwrap();
    assert!(killed.success());
    let ended = child.wait().unwrap();
    assert!(
        ended.signal().is_some() && !ended.core_dumped(),
        "{ended:?}"
    );
}

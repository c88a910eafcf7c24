//! What the journal said last of a unit that does not run.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A journal of years on a slow disk is looked through within this, or not at all: who asks for
/// the status waits.
const WITHIN: Duration = Duration::from_secs(3);

/// As many lines as tell how it ended.
const LINES: &str = "10";

/// More than ten of our lines; what is longer is cut.
const BYTES_MAX: u64 = 64 << 10;

/// The last lines of the unit, or how to look at them where they cannot be read.
pub fn last_words(unit: &str) -> String {
    let look = format!("journalctl -u {unit} -e");
    let said = match ask(unit) {
        Ok(said) => said,
        Err(why) => return format!("its journal cannot be read ({why}): {look}"),
    };
    let lines: Vec<String> = said
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with("-- "))
        .map(|line| line.replace(char::is_control, " "))
        .collect();
    match lines.is_empty() {
        true => format!(
            "the journal has nothing of {unit} that this user may read; with permission: {look}"
        ),
        false => format!("the journal said last of {unit}:\n  {}", lines.join("\n  ")),
    }
}

fn ask(unit: &str) -> Result<String, String> {
    let mut child = Command::new("journalctl")
        .args([
            "--unit",
            unit,
            "--lines",
            LINES,
            "--output",
            "cat",
            "--no-pager",
            "--quiet",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "journalctl is not installed here".to_owned(),
            _ => format!("journalctl: {error}"),
        })?;
    let Some(stdout) = child.stdout.take() else {
        return Err("journalctl: no output".to_owned());
    };
    let (sender, answer) = mpsc::channel();
    // Ends with the process, which is killed below where it takes too long.
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let read = stdout.take(BYTES_MAX).read_to_end(&mut said);
        // Nobody listens any more where it took too long.
        let _ = sender.send(read.map(|_| said));
    });
    let said = answer.recv_timeout(WITHIN);
    // It may have ended already.
    let _ = child.kill();
    let _ = child.wait();
    match said {
        Ok(Ok(said)) => Ok(String::from_utf8_lossy(&said).into_owned()),
        Ok(Err(error)) => Err(format!("journalctl: {error}")),
        Err(_) => Err(format!(
            "no answer within {}",
            humantime::format_duration(WITHIN)
        )),
    }
}

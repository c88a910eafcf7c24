//! What the demo says: where everything is and how the files are opened, then a line for each file
//! that lands; and what it does besides: failures of the source one after another, and its end.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::DateTime;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::open_notify::{Failure, Simulator};
use crate::status::{LandedFile, Status};

/// The page listens within this, or its port is taken.
const PAGE_WITHIN: Duration = Duration::from_secs(2);

/// Between two looks whether the page listens.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The source is well for so long before each failure and after the last: time for a file.
const WELL: Duration = Duration::from_secs(6);

/// Each failure lasts so long: time to be said, a frozen source too.
const FAILING: Duration = Duration::from_secs(6);

/// Where everything is.
#[derive(Debug)]
pub(super) struct Places {
    /// Where `groundtrack status` asks.
    pub(super) socket: Option<PathBuf>,
    /// The whole path of the demo's folder.
    pub(super) dir: PathBuf,
    pub(super) brokers: String,
    pub(super) topic: String,
    /// The simulator's.
    pub(super) url: String,
    /// Where the page was asked to listen.
    pub(super) listen: SocketAddr,
    /// `None`: at a signal.
    pub(super) ends_after: Option<Duration>,
}

/// Speaks and acts on a thread of its own, so that a slow terminal holds up nothing.
#[derive(Debug)]
pub(super) struct Narrator {
    places: Places,
    simulator: Simulator,
    failures: Vec<Failure>,
    status: Arc<Status>,
    landed: Receiver<LandedFile>,
    /// Cancelled to end the demo.
    shutdown: CancellationToken,
    /// Cancelled when the demo has ended.
    ended: CancellationToken,
    files: u64,
    rows: u64,
}

/// A narrator at work.
#[derive(Debug)]
pub(super) struct Narration {
    thread: JoinHandle<()>,
    ended: CancellationToken,
}

impl Narration {
    /// Everything has landed: lets it finish speaking.
    pub(super) fn end(self) {
        self.ended.cancel();
        // Its panic has been logged by the hook.
        let _ = self.thread.join();
    }
}

enum Event {
    Landed(Result<LandedFile, RecvError>),
    Turn,
    TimeIsUp,
    Ended,
}

impl Narrator {
    /// Hears of every file that lands from now on. Ends the demo by `shutdown`.
    pub(super) fn new(
        places: Places,
        simulator: Simulator,
        failures: Vec<Failure>,
        status: &Arc<Status>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            places,
            simulator,
            failures,
            landed: status.watch_landed(),
            status: status.clone(),
            shutdown,
            ended: CancellationToken::new(),
            files: 0,
            rows: 0,
        }
    }

    pub(super) fn start(mut self, mut out: impl Write + Send + 'static) -> io::Result<Narration> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let ended = self.ended.clone();
        let thread = std::thread::Builder::new()
            .name("demo".to_owned())
            .spawn(move || {
                if runtime.block_on(self.tell(&mut out)).is_err() {
                    // Nobody reads any more.
                    self.shutdown.cancel();
                    // The simulator lives until the poller has ended.
                    runtime.block_on(self.ended.cancelled());
                }
            })?;
        Ok(Narration { thread, ended })
    }

    async fn tell(&mut self, out: &mut impl Write) -> io::Result<()> {
        let started = Instant::now();
        let page = self.page().await;
        write!(out, "{}", opening(&self.places, page))?;
        out.flush()?;
        let mut turns = turns(&self.failures).into_iter().peekable();
        loop {
            let turn_at = turns.peek().map(|(after, _)| started + *after);
            let event = tokio::select! {
                biased;
                file = self.landed.recv() => Event::Landed(file),
                () = self.ended.cancelled() => Event::Ended,
                () = at(turn_at) => Event::Turn,
                () = at(self.places.ends_after.map(|after| started + after)),
                    if !self.shutdown.is_cancelled() => Event::TimeIsUp,
            };
            match event {
                Event::Landed(Ok(file)) => {
                    self.files += 1;
                    self.rows += file.rows;
                    writeln!(out, "{}", landed_line(&file))?;
                }
                Event::Landed(Err(RecvError::Lagged(files))) => {
                    self.files += files;
                    writeln!(out, "{files} more files have landed meanwhile")?;
                }
                // The status has gone: nothing lands any more.
                Event::Landed(Err(RecvError::Closed)) | Event::Ended => break,
                Event::Turn => {
                    if let Some((_, failure)) = turns.next() {
                        self.simulator.fail(failure);
                        writeln!(out, "{}", turn_line(failure))?;
                    }
                }
                Event::TimeIsUp => self.shutdown.cancel(),
            }
            out.flush()?;
        }
        write!(out, "{}", closing(&self.places, self.files, self.rows))?;
        out.flush()
    }

    /// Where the page listens, once it does.
    async fn page(&self) -> Option<SocketAddr> {
        let deadline = Instant::now() + PAGE_WITHIN;
        loop {
            let address = self.status.web_address();
            if address.is_some() || Instant::now() >= deadline || self.ended.is_cancelled() {
                return address;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// `None`: never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// When, since the start, the source fails how, and when it is well again.
fn turns(failures: &[Failure]) -> Vec<(Duration, Option<Failure>)> {
    let mut turns = Vec::new();
    let mut after = Duration::ZERO;
    for failure in failures {
        after += WELL;
        turns.push((after, Some(*failure)));
        after += FAILING;
        turns.push((after, None));
    }
    turns
}

fn turn_line(failure: Option<Failure>) -> String {
    failure.map_or_else(
        || "the source is well again".to_owned(),
        |failure| format!("the source fails now, as asked: {}", failure.name()),
    )
}

fn landed_line(file: &LandedFile) -> String {
    let time = DateTime::from_timestamp_millis(file.landed_at_ms)
        .map(|time| time.format("%H:%M:%S").to_string())
        .unwrap_or_default();
    let rows = counted(file.rows, "row");
    format!("{time}Z  {rows}, {} bytes  {}", file.bytes, file.key)
}

fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn opening(places: &Places, page: Option<SocketAddr>) -> String {
    let mut text = String::new();
    let page = page.map_or_else(
        || {
            format!(
                "not yet on {} (if another program has the port, --listen takes another)",
                places.listen
            )
        },
        |page| format!("http://{page}/api/status, with /healthz and /metrics beside it"),
    );
    let ends = places.ends_after.map_or_else(
        || "Ctrl-C ends it".to_owned(),
        |after| format!("It ends after {}", humantime::format_duration(after)),
    );
    let Places {
        dir,
        brokers,
        topic,
        url,
        ..
    } = places;
    let status = places.socket.as_deref().map_or_else(String::new, |socket| {
        let socket = quoted(socket);
        format!("  status  groundtrack status --watch --set status.socket={socket}\n")
    });
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "\
The positions are simulated: a plausible orbit, not where the space station is now.

  source  {url}
  kafka   topic {topic} on {brokers}, embedded
  files   {}
  page    {page}
{status}
Open the files with DuckDB or pandas, now or later:

  cd {}
{READERS}
{ends}. A line for each file that lands:
",
        dir.join("parquet_files").display(),
        quoted(dir),
    );
    text
}

/// How the files are opened from the demo's folder. Each command was run.
const READERS: &str = r#"
  pip install duckdb pytz        # without pytz DuckDB cannot fetch times with a zone into Python
  python3 -c "import duckdb; duckdb.sql(\"FROM 'parquet_files/*/*.parquet' ORDER BY timestamp DESC LIMIT 5\").show()"

  pip install pandas pyarrow
  python3 -c "import pandas; print(pandas.read_parquet('parquet_files').sort_values('timestamp').tail())"
"#;

fn closing(places: &Places, files: u64, rows: u64) -> String {
    format!(
        "{} with {} landed in {}. Started again there, it goes on beside them.\n",
        counted(files, "file"),
        counted(rows, "row"),
        places.dir.join("parquet_files").display()
    )
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(dir: &str, ends_after: Option<Duration>) -> Places {
        Places {
            socket: Some(PathBuf::from(dir).join("groundtrack.sock")),
            dir: PathBuf::from(dir),
            brokers: "127.0.0.1:7".to_owned(),
            topic: "iss-20261123-235959".to_owned(),
            url: "http://127.0.0.1:8/iss-now.json".to_owned(),
            listen: ([127, 0, 0, 1], 9000).into(),
            ends_after,
        }
    }

    #[test]
    fn the_opening_says_where_everything_is_and_how_it_is_read() {
        let text = opening(&places("/demo", None), Some(([127, 0, 0, 1], 9).into()));
        for part in [
            "simulated",
            "not where the space station is",
            "/demo/parquet_files",
            "cd /demo\n",
            "http://127.0.0.1:9/",
            "status.socket=/demo/groundtrack.sock\n",
            "duckdb",
            "pytz",
            "pandas",
            "Ctrl-C",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_port_that_is_taken_and_a_strange_folder_are_told_rightly() {
        let text = opening(&places("/it's", Some(Duration::from_secs(90))), None);
        assert!(text.contains("--listen"), "{text}");
        assert!(text.contains(r"cd '/it'\''s'"), "{text}");
        assert!(text.contains("after 1m 30s"), "{text}");
    }

    #[test]
    fn a_file_is_one_line() {
        let file = LandedFile {
            key: "parquet_files/a.parquet".to_owned(),
            rows: 1,
            bytes: 4321,
            landed_at_ms: 1_700_000_000_123,
        };
        assert_eq!(
            landed_line(&file),
            "22:13:20Z  1 row, 4321 bytes  parquet_files/a.parquet"
        );
    }

    #[test]
    fn failures_come_one_after_another_with_health_between() {
        let turns = turns(&[Failure::Frozen, Failure::Cut]);
        let what: Vec<_> = turns.iter().map(|(_, failure)| *failure).collect();
        assert_eq!(
            what,
            [Some(Failure::Frozen), None, Some(Failure::Cut), None]
        );
        assert!(turns.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(turns[0].0, WELL);
    }
}

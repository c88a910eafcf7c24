//! The log: to the journal, a terminal or as JSON, always through stderr's side, with a level that
//! changes at run time.
//!
//! A record passes the level first (so that what is not written costs a load and a compare), then
//! a bounded channel to the thread that writes. A full channel makes the writer of the record
//! wait: a lost line could be the one that tells why.

mod clean;
pub mod events;
mod journal;
mod repeated;

use std::fmt;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record, error};
use slog_async::{Async, AsyncGuard, OverflowStrategy};
use slog_term::{FullFormat, PlainDecorator, TermDecorator};

use self::clean::Clean;
use self::journal::Journal;
pub use self::repeated::{Repeated, Say};
use crate::config::{Log, LogFormat, LogLevel};
use crate::generation::panic_message;

/// Records between the actors and the thread that writes: a burst of a drain, at a few hundred
/// bytes each.
const CHANNEL_RECORDS: usize = 1024;

/// The name of the thread that writes.
const THREAD: &str = "log";

/// The logger and what goes with it.
pub struct LogSetup {
    /// The root.
    pub logger: Logger,
    /// Dropped last: writes what is still in the channel.
    pub guard: AsyncGuard,
    /// Changes the level.
    pub level: LevelSwitch,
}

impl fmt::Debug for LogSetup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LogSetup")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// The level below which nothing is written; all clones are one switch.
#[derive(Debug, Clone)]
pub struct LevelSwitch(Arc<AtomicUsize>);

impl LevelSwitch {
    /// At this level.
    pub fn new(level: LogLevel) -> Self {
        Self(Arc::new(AtomicUsize::new(slog_level(level).as_usize())))
    }

    /// From now on at this level.
    pub fn set(&self, level: LogLevel) {
        self.0
            .store(slog_level(level).as_usize(), Ordering::Relaxed);
    }

    pub(crate) fn lets_pass(&self, level: Level) -> bool {
        level.as_usize() <= self.0.load(Ordering::Relaxed)
    }
}

fn slog_level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::Error,
        LogLevel::Warning => Level::Warning,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    }
}

/// Starts the log.
pub fn start(settings: &Log) -> LogSetup {
    match resolve(settings.format, libsystemd::logging::connected_to_journal()) {
        LogFormat::Journal => with_drain(settings.level, Journal::new()),
        LogFormat::Json => with_drain(settings.level, json(io::stderr()).ignore_res()),
        LogFormat::Auto | LogFormat::Terminal => {
            // `None` where stderr is no terminal: lines without colour.
            match TermDecorator::new().stderr().try_build() {
                Some(terminal) => with_drain(settings.level, lines(terminal).ignore_res()),
                None => {
                    let plain = PlainDecorator::new(io::stderr());
                    with_drain(settings.level, lines(plain).ignore_res())
                }
            }
        }
    }
}

/// Logs every panic, with its place, in place of the lines on plain stderr.
pub fn log_panics(logger: &Logger) {
    let logger = logger.clone();
    std::panic::set_hook(Box::new(move |panic| log_panic(&logger, panic)));
}

fn log_panic(logger: &Logger, panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let location = panic.location().map(ToString::to_string);
    let location = location.unwrap_or_default();
    let message = panic_message(panic.payload());
    if thread == THREAD {
        // It cannot log its own end.
        eprintln!("the log's thread panicked at {location}: {message}");
        return;
    }
    error!(logger, "panic"; events::PANICKED, "thread" => thread, "location" => location, "error" => message);
}

/// What `auto` means here.
fn resolve(format: LogFormat, stderr_is_journal: bool) -> LogFormat {
    match format {
        LogFormat::Auto if stderr_is_journal => LogFormat::Journal,
        LogFormat::Auto => LogFormat::Terminal,
        other => other,
    }
}

fn with_drain<D>(level: LogLevel, drain: D) -> LogSetup
where
    D: Drain<Ok = (), Err = Never> + Send + 'static,
{
    let (channel, guard) = Async::new(drain)
        .chan_size(CHANNEL_RECORDS)
        .overflow_strategy(OverflowStrategy::Block)
        .thread_name(THREAD.to_owned())
        .build_with_guard();
    let level = LevelSwitch::new(level);
    let filtered = Filtered {
        level: level.clone(),
        channel,
    };
    LogSetup {
        logger: Logger::root(filtered, slog::o!()),
        guard,
        level,
    }
}

fn json<W: io::Write>(writer: W) -> slog_json::Json<W> {
    slog_json::Json::default(writer)
}

fn lines<D: slog_term::Decorator>(decorator: D) -> FullFormat<Clean<D>> {
    FullFormat::new(Clean(decorator))
        .use_custom_timestamp(timestamp)
        .build()
}

fn timestamp(line: &mut dyn io::Write) -> io::Result<()> {
    let now = chrono::Utc::now();
    write!(line, "{}", now.format("%Y-%m-%dT%H:%M:%S%.3fZ"))
}

/// The outermost drain: the level, then the channel.
#[derive(Debug)]
struct Filtered<D> {
    level: LevelSwitch,
    channel: D,
}

impl<D: Drain> Drain for Filtered<D> {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if self.level.lets_pass(record.level()) {
            // It fails only once the guard is gone, when the process ends.
            let _ = self.channel.log(record, values);
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        self.level.lets_pass(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, PoisonError};

    use slog::{debug, info};

    /// Collects what is written.
    #[derive(Debug, Clone, Default)]
    struct Pipe(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Pipe {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn the_level_changes_at_run_time() {
        let pipe = Pipe::default();
        let setup = with_drain(LogLevel::Info, json(pipe.clone()).ignore_res());
        debug!(setup.logger, "before");
        setup.level.set(LogLevel::Debug);
        debug!(setup.logger, "between");
        setup.level.set(LogLevel::Warning);
        info!(setup.logger, "after");
        drop(setup.guard);
        let text = pipe.text();
        assert!(text.contains("between"), "{text}");
        assert!(
            !text.contains("before") && !text.contains("after"),
            "{text}"
        );
    }

    #[test]
    fn all_that_was_logged_is_written_before_the_guard_is_gone() {
        let pipe = Pipe::default();
        let setup = with_drain(LogLevel::Info, json(pipe.clone()).ignore_res());
        // More than the channel holds.
        for number in 0..3 * CHANNEL_RECORDS {
            info!(setup.logger, "counted"; "number" => number);
        }
        drop(setup.guard);
        assert_eq!(pipe.text().lines().count(), 3 * CHANNEL_RECORDS);
    }

    #[test]
    fn a_line_of_json_holds_message_level_time_and_fields() {
        let pipe = Pipe::default();
        let setup = with_drain(LogLevel::Info, json(pipe.clone()).ignore_res());
        let log = setup.logger.new(slog::o!("group" => "landing"));
        info!(log, "file landed"; "key" => "a/b", "rows" => 3);
        drop(setup.guard);
        let line: serde_json::Value = serde_json::from_str(&pipe.text()).unwrap();
        assert_eq!(line["msg"], "file landed");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["group"], "landing");
        assert_eq!(line["rows"], 3);
        assert!(line["ts"].is_string());
    }

    #[test]
    fn a_line_of_json_names_its_event() {
        let pipe = Pipe::default();
        let setup = with_drain(LogLevel::Info, json(pipe.clone()).ignore_res());
        info!(setup.logger, "it is ready"; events::READY);
        drop(setup.guard);
        let line: serde_json::Value = serde_json::from_str(&pipe.text()).unwrap();
        assert_eq!(line["event"], "ready");
    }

    #[test]
    fn hostile_text_makes_no_line_and_no_escape_of_its_own() {
        let pipe = Pipe::default();
        let plain = PlainDecorator::new(pipe.clone());
        let setup = with_drain(LogLevel::Info, lines(plain).ignore_res());
        let hostile = "gone\nNov 24 INFO all is well\u{1b}[2J\u{9b}2J";
        info!(setup.logger, "poll failed"; "error" => hostile);
        drop(setup.guard);
        let text = pipe.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        let is_clean = |character: char| !character.is_control() || character == '\n';
        assert!(text.chars().all(is_clean), "{text:?}");
        assert!(text.contains("all is well"), "{text}");
    }

    #[test]
    fn a_panic_is_logged_with_its_place() {
        let pipe = Pipe::default();
        let setup = with_drain(LogLevel::Info, json(pipe.clone()).ignore_res());
        let before = std::panic::take_hook();
        log_panics(&setup.logger);
        let probe = std::thread::Builder::new().name("probe".to_owned());
        let ended = probe.spawn(|| panic!("on purpose")).unwrap().join();
        std::panic::set_hook(before);
        assert!(ended.is_err());
        drop(setup.guard);
        let text = pipe.text();
        // Tests that panic meanwhile are in there too.
        let line = text.lines().find(|line| line.contains("on purpose"));
        let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
        assert_eq!(line["msg"], "panic");
        assert_eq!(line["level"], "ERRO");
        assert_eq!(line["thread"], "probe");
        assert!(line["location"].as_str().unwrap().starts_with(file!()));
    }

    #[test]
    fn auto_is_the_journal_only_where_stderr_is_one() {
        assert_eq!(resolve(LogFormat::Auto, true), LogFormat::Journal);
        assert_eq!(resolve(LogFormat::Auto, false), LogFormat::Terminal);
        assert_eq!(resolve(LogFormat::Json, true), LogFormat::Json);
    }
}

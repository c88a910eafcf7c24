//! What each command does. Errors become exit codes in `main.rs` and nowhere else.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use slog::{Logger, error, info, warn};
use tokio_util::sync::CancellationToken;

use crate::adopt::{self, Rebuilding, Takeover, watch};
use crate::check::{self, Finding, Item, Layout, Problem, Report, policy};
use crate::cli::{self, Command, PolicyOf, Settings};
use crate::config::Config;
use crate::control::client::AskError;
use crate::control::place::Surroundings;
use crate::infer::{self, InferError};
use crate::landing::kafka_broker::KafkaBroker;
use crate::logging::{self, LogSetup, events};
use crate::notify::Notifier;
use crate::status::{Status, now_ms};
use crate::supervisor::reload::reloads;
use crate::supervisor::{ExitReason, GONE_WITHIN, Group, GroupName, Load, Plan, supervise};
use crate::verify::{self, Bar, JsonReport, Question, TextReport, VerifyError, Weight};
use crate::{control, demo, ingest, landing, signals, store, web};

/// How a command ended that could begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was asked to.
    Done,
    /// It found out that something is not as it should be, and has said so.
    NotWell,
    /// What was to be proven is disproved, and it has said what by.
    Disproved,
    /// A service ended.
    Served(ExitReason),
}

/// Why a command has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not valid: all of its mistakes, one a line.
    #[error("{}", .0.join("\n"))]
    Configuration(Vec<String>),
    /// The system refused what the process needs to start.
    #[error("{what}: {error}")]
    Start {
        /// What it refused.
        what: &'static str,
        /// Its answer.
        error: io::Error,
    },
    /// What it found out could not be written.
    #[error("standard output cannot be written: {0}")]
    Output(io::Error),
    /// Nothing could be proven, for this reason.
    #[error("{0}")]
    Unproven(String),
    /// There is no sample to propose columns for.
    #[error("{0}")]
    Sample(String),
    /// No checkpoint could or may be made.
    #[error("{0}")]
    Adopt(#[from] adopt::Error),
    /// The running process could not be asked.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// There is no process to be asked; what is known of it.
    #[error("{0}")]
    NotRunning(String),
    /// The running process has refused the configuration: all of its mistakes.
    #[error("refused, the old configuration goes on:\n{}", .0.join("\n"))]
    Refused(Vec<String>),
    /// The running process is about to end.
    #[error("groundtrack is ending: the next start reads the configuration anyway")]
    Ending,
}

/// Runs a command to its end.
///
/// # Errors
/// [`Error`]: why it could not begin.
pub fn dispatch(command: Command) -> Result<Outcome, Error> {
    if !matches!(command, Command::Demo(_)) {
        keep_memory_private()?;
    }
    match command {
        Command::Run(arguments) => {
            let load = load_from(&arguments.settings);
            run(
                load,
                &arguments.settings.config,
                groups(),
                arguments.until_caught_up,
            )
            .map(Outcome::Served)
        }
        Command::Demo(arguments) => demo::run(arguments, groups()).map(Outcome::Served),
        Command::Check(arguments) => check(&arguments),
        Command::Verify(arguments) => prove(&arguments),
        Command::Infer(arguments) => propose(&arguments),
        Command::Adopt(arguments) => adopt(arguments),
        Command::Reload(arguments) => control::command::reload(&arguments),
        Command::Status(arguments) => control::command::status(&arguments),
    }
}

/// Secrets stand in this process's memory: no core dump is made of it, and no other process of this
/// user may read it. What everybody may read in `/proc`, and root, are not concerned.
fn keep_memory_private() -> Result<(), Error> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| Error::Start {
        what: "core dumps cannot be turned off",
        error: error.into(),
    })
}

/// Ingest, landing and web.
fn groups() -> Vec<Group> {
    vec![
        Group::new(GroupName::Ingest, ingest::run),
        Group::new(GroupName::Landing, landing::run),
        Group::new(GroupName::Web, web::run),
    ]
}

/// Reads the file again each time it is called; the environment and `--set` stay as they were.
fn load_from(settings: &Settings) -> Load {
    let sources = settings.sources();
    Box::new(move || {
        Config::load(&sources)
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    })
}

/// `groundtrack check`: what was found goes to stdout, mistakes in the configuration to stderr.
fn check(arguments: &cli::Check) -> Result<Outcome, Error> {
    if let Some(which) = arguments.policy {
        return print_policy(&arguments.settings, which);
    }
    let since = Instant::now();
    let loaded = load_from(&arguments.settings)();
    let valid = format!("{} is valid", arguments.settings.config.display());
    let configuration = Item {
        name: "configuration",
        finding: match &loaded {
            Ok(_) => Finding::Well(valid),
            Err(mistakes) => {
                Finding::Wrong(Problem::new(mistakes.join("\n"), "correct each of these"))
            }
        },
        took: since.elapsed(),
    };
    let mut report = Report {
        items: vec![configuration],
        cost: None,
    };
    if let Ok(config) = &loaded {
        let examined = examine_until_signal(config)?;
        report.items.extend(examined.items);
        report.cost = examined.cost;
    }
    if arguments.json {
        print(&format_args!("{:#}\n", report.to_json()))?;
    }
    let _ = loaded.map_err(Error::Configuration)?;
    if !arguments.json {
        print(&report.laid_out(Layout::of_stdout()))?;
    }
    Ok(match report.is_well() {
        true => Outcome::Done,
        false => Outcome::NotWell,
    })
}

/// `groundtrack check --policy`: what has to be allowed goes to stdout.
fn print_policy(settings: &Settings, which: PolicyOf) -> Result<Outcome, Error> {
    let config = load_from(settings)().map_err(Error::Configuration)?;
    let (iam, acls) = (policy::iam(&config.store), policy::acls(&config));
    match (which, iam) {
        (PolicyOf::All, iam) => {
            let all = serde_json::json!({ "iam": iam, "acl": acls });
            print(&format_args!("{all:#}\n"))?;
        }
        (PolicyOf::Iam, Some(iam)) => print(&format_args!("{iam:#}\n"))?,
        (PolicyOf::Iam, None) => {
            let words = "store.url names no bucket: there is no policy to grant";
            return Err(Error::Unproven(words.to_owned()));
        }
        (PolicyOf::Acl, _) => print(&format_args!("{}\n", acls.join("\n")))?,
    }
    Ok(Outcome::Done)
}

/// Ctrl-C and SIGTERM end it early, but not before the store is tidy again.
fn examine_until_signal(config: &Config) -> Result<Report, Error> {
    let refused = |what| move |error| Error::Start { what, error };
    let (listener, mut signals) =
        signals::listen().map_err(refused("the signals cannot be taken over"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(refused("no runtime could be started"))?;
    let stop = CancellationToken::new();
    let report = runtime.block_on(async {
        let examining = check::examine(config, store::open(&config.store, None), &stop);
        tokio::pin!(examining);
        loop {
            tokio::select! {
                report = &mut examining => return report,
                Some(_) = signals.recv() => stop.cancel(),
            }
        }
    });
    // A question to Kafka that was cut short may still hold its thread.
    runtime.shutdown_background();
    drop(listener);
    Ok(report)
}

/// `groundtrack verify`: what was found goes to stdout, a progress bar to stderr.
fn prove(arguments: &cli::Verify) -> Result<Outcome, Error> {
    let config = load_from(&arguments.settings)().map_err(Error::Configuration)?;
    let store = store::open(&config.store, None)
        .map_err(|error| Error::Configuration(vec![error.to_string()]))?;
    let question = Question {
        topic: arguments.topic,
        since_ms: arguments.since.map(|since| since.ms(now_ms())),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Start {
            what: "no runtime could be started",
            error,
        })?;
    let bar = Bar::on_stderr();
    // Findings may come one by one, and there may be many of them.
    let out = io::BufWriter::new(WhileRead(Some(io::stdout().lock())));
    let proven = match arguments.json {
        true => {
            let mut report = JsonReport::new(out, bar);
            let asked = verify::verify(&config, store, question, &mut report);
            runtime.block_on(asked).and_then(|summary| {
                let told = report.finish(&summary);
                told.map(|()| summary).map_err(VerifyError::Output)
            })
        }
        false => {
            let mut report = TextReport::new(out, bar);
            let asked = verify::verify(&config, store, question, &mut report);
            runtime.block_on(asked).and_then(|summary| {
                let told = report.finish(&summary);
                told.map(|()| summary).map_err(VerifyError::Output)
            })
        }
    };
    // A question to Kafka that was cut short may still hold its thread.
    runtime.shutdown_background();
    match proven {
        Ok(summary) => Ok(match summary.weight() {
            Weight::Told => Outcome::Done,
            Weight::Unread => Outcome::NotWell,
            Weight::Disproves => Outcome::Disproved,
        }),
        Err(VerifyError::Output(error)) => Err(Error::Output(error)),
        Err(error) => Err(Error::Unproven(error.to_string())),
    }
}

/// `groundtrack adopt`: the table goes to stdout, what it waits for and refuses to stderr. It may be
/// killed at any moment, and run again.
fn adopt(arguments: cli::Adopt) -> Result<Outcome, Error> {
    let config = load_from(&arguments.settings)().map_err(Error::Configuration)?;
    let unanswered = |error: &dyn fmt::Display| adopt::Error::Unanswered(error.to_string());
    let store = store::open(&config.store, None).map_err(|error| unanswered(&error))?;
    let say = |words: &str| eprintln!("{words}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Start {
            what: "no runtime could be started",
            error,
        })?;
    let report = runtime.block_on(async {
        match arguments.checkpoint {
            Some(checkpoint) => {
                let asked = Takeover {
                    checkpoint,
                    sink: arguments.sink,
                    is_stopped: arguments.job_stopped,
                    dry_run: arguments.dry_run,
                    quiet: watch::QUIET,
                };
                // Kafka's client is heard by its answers.
                let unheard = Logger::root(slog::Discard, slog::o!());
                let broker = KafkaBroker::new(&config.kafka, &unheard);
                let broker = broker.map_err(|error| unanswered(&error))?;
                adopt::take_over(&config, store, &broker, &asked, &say).await
            }
            None => {
                let asked = Rebuilding {
                    dry_run: arguments.dry_run,
                    quiet: watch::QUIET,
                };
                adopt::from_files(&config, store, &asked, &say).await
            }
        }
    });
    // A question to Kafka that was cut short may still hold its thread.
    runtime.shutdown_background();
    let report = report?;
    print(&report)?;
    match report.refusals.is_empty() {
        true => Ok(Outcome::Done),
        false => Err(adopt::Error::Refused(report.refusals).into()),
    }
}

/// `groundtrack infer`: the columns go to stdout, what should be known about them to stderr.
fn propose(arguments: &cli::Infer) -> Result<Outcome, Error> {
    let limits = infer::Limits::default();
    let file = &arguments.file;
    let (from, inference) = if arguments.topic {
        let config = load_from(&arguments.settings)().map_err(Error::Configuration)?;
        let lines = infer::topic::sample(&config.kafka)
            .map_err(|error| Error::Sample(error.to_string()))?;
        (config.kafka.topic, infer::infer(&*lines, limits))
    } else if arguments.reads_stdin() {
        let lines = io::stdin().lock();
        ("standard input".to_owned(), infer::infer(lines, limits))
    } else {
        let lines = File::open(file).map(BufReader::new);
        let inference = lines.map_err(InferError::from);
        let inference = inference.and_then(|lines| infer::infer(lines, limits));
        (file.display().to_string(), inference)
    };
    let inference = inference.map_err(|error| Error::Sample(format!("{from}: {error}")))?;
    for words in inference.collisions.iter().chain(&inference.warnings) {
        eprintln!("{}", words.replace(char::is_control, " "));
    }
    print(&inference)?;
    Ok(Outcome::Done)
}

/// Writes to stdout; a reader that has gone away, as `head` does, wants no more and is no error.
pub(crate) fn print(what: &dyn fmt::Display) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    let written = write!(stdout, "{what}").and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

/// Writes as long as somebody reads. What is found out without a reader is still the exit code.
struct WhileRead<W>(Option<W>);

impl<W: Write> WhileRead<W> {
    fn write_if<T>(
        &mut self,
        unread: T,
        write: impl FnOnce(&mut W) -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(inner) = &mut self.0 else {
            return Ok(unread);
        };
        match write(inner) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.0 = None;
                Ok(unread)
            }
            written => written,
        }
    }
}

impl<W: Write> Write for WhileRead<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_if(bytes.len(), |inner| inner.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_if((), W::flush)
    }
}

/// What [`serve`] is given.
pub struct Service {
    /// What it starts with.
    pub config: Config,
    /// What a reload calls.
    pub load: Load,
    /// Where its socket may be.
    pub surroundings: Surroundings,
    /// Ingest, landing and web.
    pub groups: Vec<Group>,
    /// Land what the topic held at the start, then end.
    pub until_caught_up: bool,
    /// Cancelled: drain and end.
    pub shutdown: CancellationToken,
    /// Made by the caller, who may read it meanwhile.
    pub status: Arc<Status>,
    /// The log.
    pub log: LogSetup,
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Service")
            .field("config", &self.config)
            .field("groups", &self.groups)
            .field("until_caught_up", &self.until_caught_up)
            .finish_non_exhaustive()
    }
}

/// `groundtrack run`: loads the configuration, which is read from `file`, and runs the groups until there is a reason to end.
///
/// # Errors
/// [`Error::Configuration`] with all mistakes, [`Error::Start`].
pub fn run(
    mut load: Load,
    file: &Path,
    groups: Vec<Group>,
    until_caught_up: bool,
) -> Result<ExitReason, Error> {
    let config = load().map_err(Error::Configuration)?;
    let status = Status::new();
    status.set_config_file(file.display().to_string());
    serve(Service {
        log: logging::start(&config.log),
        config,
        load,
        surroundings: Surroundings::of_process(Some(file)),
        groups,
        until_caught_up,
        shutdown: CancellationToken::new(),
        status,
    })
}

/// Runs the groups until there is a reason to end: what `run` and `demo` share.
///
/// # Errors
/// [`Error::Start`] where the signals cannot be taken over.
pub fn serve(mut service: Service) -> Result<ExitReason, Error> {
    let LogSetup {
        logger,
        guard,
        level,
    } = service.log;
    logging::log_panics(&logger);
    let (listener, signals) = signals::listen().map_err(|error| Error::Start {
        what: "the signals cannot be taken over",
        error,
    })?;
    log_start(&logger, &service.config);
    let (reloader, reloads) = reloads();
    let control = control::group(service.surroundings, reloader);
    service.groups.push(control);
    let reason = supervise(Plan {
        groups: service.groups,
        config: service.config,
        load: service.load,
        status: service.status,
        log: logger.clone(),
        level,
        notifier: Notifier::from_environment(),
        signals,
        reloads,
        shutdown: service.shutdown,
        until_caught_up: service.until_caught_up,
        gone_within: GONE_WITHIN,
    });
    log_end(&logger, &reason);
    drop(listener);
    drop(guard);
    Ok(reason)
}

fn log_start(log: &Logger, config: &Config) {
    info!(log, "groundtrack starts"; events::STARTED, "version" => env!("CARGO_PKG_VERSION"),
        "pid" => std::process::id(), "topic" => &config.kafka.topic,
        "consumer_group" => &config.kafka.group);
}

fn log_end(log: &Logger, reason: &ExitReason) {
    match reason {
        ExitReason::Drained | ExitReason::CaughtUp => {
            info!(log, "groundtrack ends"; events::ENDED);
        }
        ExitReason::OnlyStoppedLeft(which) => {
            error!(log, "groundtrack ends, only stopped partitions are left"; events::ENDED,
                "error" => which);
        }
        ExitReason::GaveUp(why) => {
            error!(log, "groundtrack gives up"; events::GAVE_UP, "error" => why);
        }
        ExitReason::Fenced(why) => {
            error!(log, "groundtrack is fenced"; events::FENCED, "error" => why);
        }
        ExitReason::Interrupted => {
            warn!(log, "groundtrack ends before its drain did"; events::ENDED);
        }
    }
}

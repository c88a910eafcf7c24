//! The supervisor over fake groups on real threads. Events are awaited, never slept for.

use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::sync::mpsc as events;
use std::thread::JoinHandle;

use actix::{Actor, Context};
use slog::Logger;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::effect::Effect;
use super::reload::{Answer, Applied, GroupState, Reloader, Restarted, reloads};
use super::*;
use crate::config::LogLevel;
use crate::generation::{ActorSet, End, Generation};
use crate::logging::LevelSwitch;
use crate::notify::Notifier;
use crate::status::Status;

/// No event takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a fake generation does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    /// Runs until it is asked to drain or stop.
    Serve,
    /// One of its actors panics.
    Panic,
    /// It panics outside of its actors.
    PanicOutside,
    /// It fails.
    Fail,
    /// It is fenced.
    Fenced,
    /// One of its actors works and makes no progress; it ends when it is told to stop.
    Hang,
    /// It drains for ever; it ends when it is told to stop.
    DrainForEver,
    /// Its thread never ends.
    Stuck,
    /// Its thread never comes round, while all its actors wait.
    StuckAtOnce,
    /// Asked to drain, its thread never ends.
    StuckDraining,
    /// It has landed what the topic held.
    CatchUp,
    /// Only stopped partitions are left.
    OnlyStoppedLeft,
}

struct Bomb;

impl Actor for Bomb {
    type Context = Context<Self>;

    fn started(&mut self, _context: &mut Context<Self>) {
        panic!("boom");
    }
}

async fn fake(
    name: GroupName,
    does: Does,
    say: events::Sender<String>,
    generation: Generation,
) -> Outcome {
    let tell = |what: &str| {
        let topic = match generation.config.kafka.topic.as_str() {
            "project_topic" => String::new(),
            topic => format!(" {topic}"),
        };
        let event = format!("{} {} {what}{topic}", name.as_str(), generation.number);
        // A test that has seen enough hears no more.
        let _ = say.send(event);
    };
    let pulse = generation.pulse("bomb");
    tell("started");
    match does {
        Does::Serve => {
            tokio::select! {
                () = generation.drain.cancelled() => { tell("drained"); Ok(End::Drained) }
                () = generation.stop.cancelled() => { tell("stopped"); Ok(End::Stopped) }
            }
        }
        Does::Panic => {
            let mut actors = ActorSet::default();
            actors.start("bomb", Context::new(), Bomb);
            let failure = actors.ended().await;
            actors.shut_down().await;
            Err(failure)
        }
        Does::PanicOutside => panic!("outside"),
        Does::Fail => Err(Failure::Group("it fell over".to_owned())),
        Does::Fenced => Err(Failure::Fenced("another has our id".to_owned())),
        Does::Hang => {
            pulse.works();
            generation.stop.cancelled().await;
            tell("stopped");
            Ok(End::Stopped)
        }
        Does::DrainForEver => {
            generation.drain.cancelled().await;
            tell("draining");
            generation.stop.cancelled().await;
            tell("stopped");
            Ok(End::Stopped)
        }
        Does::Stuck => {
            generation.stop.cancelled().await;
            tell("stuck");
            loop {
                std::thread::park();
            }
        }
        Does::StuckAtOnce => loop {
            std::thread::park();
        },
        Does::StuckDraining => {
            generation.drain.cancelled().await;
            loop {
                std::thread::park();
            }
        }
        Does::CatchUp => Ok(End::CaughtUp),
        Does::OnlyStoppedLeft => Ok(End::OnlyStoppedLeft("partition 0".to_owned())),
    }
}

struct Rig {
    said: events::Receiver<String>,
    signals: mpsc::Sender<Signal>,
    reloader: Reloader,
    shutdown: CancellationToken,
    status: Arc<Status>,
    on_disk: Arc<Mutex<Result<Config, Vec<String>>>>,
    level: LevelSwitch,
    thread: JoinHandle<ExitReason>,
}

fn answer(asked: impl Future<Output = Option<Answer>>) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await });
    answer.expect("no answer in time").expect("no answer")
}

fn restarted(group: GroupName, keys: &[&str], state: GroupState) -> Restarted {
    Restarted {
        group: group.as_str().to_owned(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        state,
    }
}

/// Back-offs and heartbeats in milliseconds.
fn config() -> Config {
    let mut config = crate::testing::config();
    config.supervision.backoff = Duration::from_millis(2);
    config.supervision.backoff_max = Duration::from_millis(10);
    config.supervision.heartbeat = Duration::from_millis(50);
    config
}

impl Rig {
    /// Each group does what its script says, one entry a generation, the last one for ever.
    fn start(config: Config, scripts: &[(GroupName, &'static [Does])]) -> Self {
        Self::start_with(config, scripts, |_| ())
    }

    fn start_with(
        config: Config,
        scripts: &[(GroupName, &'static [Does])],
        change: impl FnOnce(&mut Plan),
    ) -> Self {
        let (say, said) = events::channel();
        let groups = scripts.iter().map(|(name, script)| {
            let (name, script, say) = (*name, *script, say.clone());
            Group::new(name, move |generation| {
                let index = (generation.number as usize - 1).min(script.len() - 1);
                fake(name, script[index], say.clone(), generation)
            })
        });
        let (signals, wishes) = mpsc::channel(4);
        let (reloader, asked) = reloads();
        let on_disk = Arc::new(Mutex::new(Ok(config.clone())));
        let load = on_disk.clone();
        let mut plan = Plan {
            groups: groups.collect(),
            config,
            load: Box::new(move || load.lock().unwrap().clone()),
            status: Status::new(),
            log: Logger::root(slog::Discard, slog::o!()),
            level: LevelSwitch::new(LogLevel::Info),
            notifier: Notifier::silent(),
            signals: wishes,
            reloads: asked,
            shutdown: CancellationToken::new(),
            until_caught_up: false,
            gone_within: PATIENCE,
        };
        change(&mut plan);
        Self {
            said,
            signals,
            reloader,
            shutdown: plan.shutdown.clone(),
            status: plan.status.clone(),
            on_disk,
            level: plan.level.clone(),
            thread: std::thread::spawn(move || supervise(plan)),
        }
    }

    /// Waits for this event and returns those before it.
    fn wait_for(&self, event: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(said) if said == event => return before,
                Ok(said) => before.push(said),
                Err(_) => panic!("no {event:?} after {before:?}"),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        self.signals.blocking_send(signal).unwrap();
    }

    fn reload(&self, config: Result<Config, Vec<String>>) {
        *self.on_disk.lock().unwrap() = config;
        self.signal(Signal::Reload);
    }

    /// Asks as the socket does, and waits for the answer.
    fn ask(&self, config: Result<Config, Vec<String>>) -> Answer {
        *self.on_disk.lock().unwrap() = config;
        answer(self.reloader.reload())
    }

    fn generation(&self, group: &'static str) -> u64 {
        self.status.group(group).generation.load(Ordering::Relaxed)
    }

    /// Waits until the supervisor has said this trouble, or has taken it back.
    fn wait_for_trouble(&self, place: &str, holds: bool) -> String {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let troubles = self.status.troubles();
            let found = troubles.into_iter().find(|(at, _)| at == place);
            if found.is_some() == holds {
                return found.map_or_else(String::new, |(_, trouble)| trouble.text);
            }
            std::thread::yield_now();
        }
        panic!("the trouble of {place:?} never became {holds}");
    }

    fn reason(self) -> ExitReason {
        self.thread.join().unwrap()
    }

    fn drains(self) {
        self.signal(Signal::End);
        assert_eq!(self.reason(), ExitReason::Drained);
    }
}

use Does::*;
use GroupName::{Control, Ingest, Landing, Web};

#[test]
fn a_group_whose_actor_panics_gets_a_new_generation() {
    let rig = Rig::start(config(), &[(Landing, &[Panic, Serve])]);
    rig.wait_for("landing 2 started");
    let group = rig.status.group("landing");
    assert_eq!(group.restarts.load(Ordering::Relaxed), 1);
    assert_eq!(group.generation.load(Ordering::Relaxed), 2);
    assert_eq!(
        *group.last_failure.lock().unwrap(),
        "actor bomb ended: panicked: boom"
    );
    rig.drains();
}

#[test]
fn a_panic_outside_of_the_actors_is_a_failure_too() {
    let rig = Rig::start(config(), &[(Landing, &[PanicOutside, Serve])]);
    rig.wait_for("landing 2 started");
    let group = rig.status.group("landing");
    assert_eq!(*group.last_failure.lock().unwrap(), "panicked: outside");
    rig.drains();
}

#[test]
fn landing_gives_up_after_its_restarts_and_drains_the_others() {
    let mut config = config();
    config.supervision.restarts = 3;
    let rig = Rig::start(config, &[(Landing, &[Fail]), (Ingest, &[Serve])]);
    let before = rig.wait_for("ingest 1 drained");
    assert!(
        before.contains(&"landing 4 started".to_owned()),
        "{before:?}"
    );
    let reason = rig.reason();
    let expected = "more than 3 restarts within 10m; the last failure: it fell over";
    assert_eq!(reason, ExitReason::GaveUp(expected.to_owned()));
}

#[test]
fn ingest_and_web_are_retried_for_ever_and_landing_goes_on() {
    let mut config = config();
    config.supervision.restarts = 3;
    let scripts: &[(GroupName, &'static [Does])] =
        &[(Ingest, &[Fail]), (Landing, &[Serve]), (Web, &[Fail])];
    let rig = Rig::start(config, scripts);
    let mut seen = rig.wait_for("ingest 20 started");
    if !seen.contains(&"web 20 started".to_owned()) {
        seen.extend(rig.wait_for("web 20 started"));
    }
    assert!(!seen.contains(&"landing 2 started".to_owned()));
    let text = rig.wait_for_trouble("group web", true);
    assert!(text.ends_with("it fell over"), "{text}");
    rig.drains();
}

#[test]
fn a_group_that_runs_longer_than_its_back_off_is_no_trouble_any_more() {
    let rig = Rig::start(config(), &[(Landing, &[Serve]), (Web, &[Fail, Serve])]);
    rig.wait_for("web 2 started");
    rig.wait_for_trouble("group web", false);
    rig.drains();
}

#[test]
fn fencing_ends_the_process_without_a_restart() {
    let rig = Rig::start(config(), &[(Landing, &[Fenced]), (Ingest, &[Serve])]);
    rig.wait_for("ingest 1 drained");
    let status = rig.status.clone();
    assert_eq!(
        rig.reason(),
        ExitReason::Fenced("another has our id".to_owned())
    );
    let generations = &status.group("landing").generation;
    assert_eq!(generations.load(Ordering::Relaxed), 1);
}

#[test]
fn a_hung_actor_ends_its_generation_and_is_named() {
    let rig = Rig::start(config(), &[(Landing, &[Hang, Serve])]);
    rig.wait_for("landing 1 stopped");
    rig.wait_for("landing 2 started");
    let group = rig.status.group("landing");
    let failure = group.last_failure.lock().unwrap().clone();
    assert!(
        failure.starts_with("actor bomb ended: hung: no progress for"),
        "{failure}"
    );
    rig.drains();
}

#[test]
fn no_new_generation_of_landing_begins_beside_a_stuck_thread() {
    let mut config = config();
    config.supervision.heartbeat = Duration::from_millis(5);
    let rig = Rig::start_with(config, &[(Landing, &[Stuck])], |plan| {
        plan.gone_within = Duration::from_millis(20);
    });
    rig.wait_for("landing 1 started");
    // The pulse of a generation that is stuck in its work.
    rig.status.group("landing").pulse("bomb").works();
    let status = rig.status.clone();
    let ExitReason::GaveUp(why) = rig.reason() else {
        panic!("it did not give up");
    };
    assert!(why.starts_with("the thread of the group landing is stuck"));
    let generations = &status.group("landing").generation;
    assert_eq!(generations.load(Ordering::Relaxed), 1);
}

#[test]
fn a_stuck_thread_of_the_page_is_said_and_landing_goes_on() {
    let mut config = config();
    config.supervision.heartbeat = Duration::from_millis(5);
    let rig = Rig::start_with(config, &[(Landing, &[Serve]), (Web, &[Stuck])], |plan| {
        plan.gone_within = Duration::from_millis(20);
    });
    rig.wait_for("web 1 started");
    rig.status.group("web").pulse("bomb").works();
    let text = rig.wait_for_trouble("group web", true);
    assert!(
        text.ends_with("restart the service to have it back"),
        "{text}"
    );
    rig.drains();
}

#[test]
fn a_thread_that_never_comes_round_is_found_though_its_actors_wait() {
    let rig = Rig::start_with(config(), &[(Landing, &[StuckAtOnce])], |plan| {
        plan.gone_within = Duration::from_millis(20);
    });
    let status = rig.status.clone();
    let ExitReason::GaveUp(why) = rig.reason() else {
        panic!("it did not give up");
    };
    assert!(why.starts_with("the thread of the group landing is stuck"));
    let actors = status.group("landing").actors();
    assert!(
        actors
            .iter()
            .all(|(_, pulse)| !pulse.waits_for().is_empty())
    );
}

/// What systemd hears in a test.
struct Systemd {
    _folder: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Systemd {
    /// Its watchdog is to be fed each millisecond.
    fn listens(plan: &mut Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        plan.notifier = Notifier::telling(path.to_str(), Some(Duration::from_millis(1)));
        Self {
            _folder: folder,
            socket,
        }
    }

    /// Waits for a message that holds this, and returns those before it.
    fn hears(&self, word: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("no {word:?} after {before:?}: {error}");
            });
            let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if message.contains(word) {
                return before;
            }
            before.push(message);
        }
    }
}

#[test]
fn systemd_hears_of_the_start_the_reload_and_the_end() {
    let mut systemd = None;
    let rig = Rig::start_with(config(), &[(Landing, &[Serve])], |plan| {
        systemd = Some(Systemd::listens(plan));
    });
    let systemd = systemd.unwrap();
    let before = systemd.hears("WATCHDOG=1");
    assert!(
        !before.concat().contains("READY=1"),
        "it has not joined yet"
    );
    rig.status.set_joined();
    systemd.hears("READY=1");
    systemd.hears("WATCHDOG=1");
    rig.reload(Ok(config()));
    systemd.hears("RELOADING=1\nMONOTONIC_USEC=");
    systemd.hears("READY=1");
    rig.signal(Signal::End);
    systemd.hears("STOPPING=1");
    assert_eq!(rig.reason(), ExitReason::Drained);
}

#[test]
fn a_refused_reload_ends_for_systemd_too_and_is_in_its_status() {
    let mut systemd = None;
    let rig = Rig::start_with(config(), &[(Landing, &[Serve])], |plan| {
        systemd = Some(Systemd::listens(plan));
    });
    let systemd = systemd.unwrap();
    rig.status.set_joined();
    systemd.hears("READY=1");
    rig.reload(Err(vec!["line 3: files.max_rows".to_owned()]));
    systemd.hears("RELOADING=1");
    systemd.hears("READY=1");
    systemd.hears("STATUS=degraded: configuration: the last reload was refused: line 3");
    rig.drains();
}

#[test]
fn the_watchdog_is_not_fed_beside_a_thread_that_is_stuck() {
    let mut systemd = None;
    let mut config = config();
    config.supervision.heartbeat = Duration::from_millis(5);
    let scripts: &[(GroupName, &'static [Does])] = &[(Landing, &[Serve]), (Web, &[Stuck])];
    let rig = Rig::start_with(config.clone(), scripts, |plan| {
        systemd = Some(Systemd::listens(plan));
        plan.gone_within = Duration::from_millis(20);
    });
    let systemd = systemd.unwrap();
    rig.status.set_joined();
    rig.wait_for("web 1 started");
    systemd.hears("WATCHDOG=1");
    rig.status.group("web").pulse("bomb").works();
    rig.wait_for_trouble("group web", true);
    // What was said before the thread was found stuck lies before this.
    rig.reload(Ok(config.clone()));
    systemd.hears("RELOADING=1");
    for _ in 0..3 {
        rig.reload(Ok(config.clone()));
        let before = systemd.hears("RELOADING=1").concat();
        assert!(!before.contains("WATCHDOG=1"), "{before}");
    }
    rig.drains();
}

#[test]
fn what_is_drained_is_drained_from_the_source_down() {
    let scripts: &[(GroupName, &'static [Does])] =
        &[(Web, &[Serve]), (Landing, &[Serve]), (Ingest, &[Serve])];
    let rig = Rig::start(config(), scripts);
    let started = ["ingest 1 started", "landing 1 started", "web 1 started"];
    let mut seen: Vec<String> = (0..3)
        .map(|_| rig.said.recv_timeout(PATIENCE).unwrap())
        .collect();
    seen.sort();
    assert_eq!(seen, started);
    rig.shutdown.cancel();
    let drained: Vec<String> = (0..3)
        .map(|_| rig.said.recv_timeout(PATIENCE).unwrap())
        .collect();
    assert_eq!(
        drained,
        ["ingest 1 drained", "landing 1 drained", "web 1 drained"]
    );
    assert_eq!(rig.reason(), ExitReason::Drained);
}

#[test]
fn a_drain_past_its_deadline_is_stopped_and_the_process_ends() {
    let mut config = config();
    config.limits.drain = Duration::from_secs(2);
    let rig = Rig::start(config, &[(Ingest, &[DrainForEver]), (Landing, &[Serve])]);
    rig.wait_for("ingest 1 started");
    rig.signal(Signal::End);
    // The source has half of the time, so landing still drains.
    rig.wait_for("ingest 1 stopped");
    rig.wait_for("landing 1 drained");
    assert_eq!(rig.reason(), ExitReason::Drained);
}

#[test]
fn a_stuck_source_does_not_keep_landing_from_its_drain() {
    let mut config = config();
    config.limits.drain = Duration::from_secs(2);
    let scripts: &[(GroupName, &'static [Does])] =
        &[(Ingest, &[StuckDraining]), (Landing, &[Serve])];
    let rig = Rig::start_with(config, scripts, |plan| {
        plan.gone_within = Duration::from_millis(20);
    });
    rig.wait_for("ingest 1 started");
    rig.signal(Signal::End);
    rig.wait_for("landing 1 drained");
    assert_eq!(rig.reason(), ExitReason::Drained);
}

#[test]
fn a_group_that_a_reload_turns_off_is_no_trouble_any_more() {
    let rig = Rig::start(config(), &[(Landing, &[Serve]), (Web, &[Fail])]);
    rig.wait_for_trouble("group web", true);
    let mut new = config();
    new.web = None;
    rig.reload(Ok(new));
    rig.wait_for_trouble("group web", false);
    rig.drains();
}

#[test]
fn a_second_signal_ends_at_once() {
    let rig = Rig::start(config(), &[(Landing, &[DrainForEver])]);
    rig.wait_for("landing 1 started");
    rig.signal(Signal::End);
    rig.wait_for("landing 1 draining");
    rig.signal(Signal::End);
    assert_eq!(rig.reason(), ExitReason::Interrupted);
}

#[test]
fn a_reload_restarts_only_what_changed() {
    let scripts: &[(GroupName, &'static [Does])] =
        &[(Ingest, &[Serve]), (Landing, &[Serve]), (Web, &[Serve])];
    let rig = Rig::start(config(), scripts);
    rig.wait_for("landing 1 started");
    let mut new = config();
    new.files.max_rows += 1;
    new.log.level = LogLevel::Trace;
    rig.reload(Ok(new));
    rig.wait_for("landing 1 drained");
    rig.wait_for("landing 2 started");
    assert!(rig.level.lets_pass(slog::Level::Trace));
    for other in ["ingest", "web"] {
        let generation = &rig.status.group(other).generation;
        assert_eq!(generation.load(Ordering::Relaxed), 1, "{other}");
    }
    let restarts = &rig.status.group("landing").restarts;
    assert_eq!(restarts.load(Ordering::Relaxed), 0);
    rig.drains();
}

#[test]
fn a_reload_hands_the_new_configuration_to_the_new_generations() {
    let rig = Rig::start(config(), &[(Ingest, &[Serve]), (Landing, &[Serve])]);
    rig.wait_for("landing 1 started");
    let mut new = config();
    new.kafka.topic = "other".to_owned();
    new.source = None;
    rig.reload(Ok(new));
    rig.wait_for("landing 2 started other");
    let ingest = rig.status.group("ingest");
    assert_eq!(ingest.generation.load(Ordering::Relaxed), 1);
    rig.drains();
}

#[test]
fn a_reload_starts_a_group_that_backs_off_at_once() {
    let mut old = config();
    old.supervision.backoff = Duration::from_secs(3600);
    old.supervision.backoff_max = Duration::from_secs(3600);
    let rig = Rig::start(old.clone(), &[(Landing, &[Serve]), (Web, &[Fail, Serve])]);
    rig.wait_for_trouble("group web", true);
    let mut new = old;
    new.web = Some(crate::config::Web {
        listen: ([127, 0, 0, 1], 1).into(),
        hosts: Vec::new(),
    });
    rig.reload(Ok(new));
    rig.wait_for("web 2 started");
    rig.drains();
}

#[test]
fn an_invalid_reload_keeps_the_old_configuration() {
    let rig = Rig::start(config(), &[(Landing, &[Serve])]);
    rig.wait_for("landing 1 started");
    let mistakes = ["line 3: files.max_rows", "line 9: web.listen"];
    rig.reload(Err(mistakes.map(str::to_owned).to_vec()));
    let text = rig.wait_for_trouble("configuration", true);
    assert!(
        mistakes.iter().all(|mistake| text.contains(mistake)),
        "{text}"
    );
    rig.reload(Ok(config()));
    rig.wait_for_trouble("configuration", false);
    let generations = &rig.status.group("landing").generation;
    assert_eq!(generations.load(Ordering::Relaxed), 1);
    rig.drains();
}

#[test]
fn until_caught_up_runs_landing_alone_and_ends_with_it() {
    let scripts: &[(GroupName, &'static [Does])] = &[
        (Ingest, &[Serve]),
        (Landing, &[Panic, CatchUp]),
        (Web, &[Serve]),
    ];
    let rig = Rig::start_with(config(), scripts, |plan| plan.until_caught_up = true);
    let (said, reason) = {
        let status = rig.status.clone();
        let said = rig.said;
        let reason = rig.thread.join().unwrap();
        assert_eq!(status.group("web").generation.load(Ordering::Relaxed), 0);
        (said, reason)
    };
    assert_eq!(reason, ExitReason::CaughtUp);
    let said: Vec<String> = said.iter().take(2).collect();
    assert_eq!(said, ["landing 1 started", "landing 2 started"]);
}

#[test]
fn until_caught_up_says_what_is_stopped() {
    let rig = Rig::start_with(config(), &[(Landing, &[OnlyStoppedLeft])], |plan| {
        plan.until_caught_up = true;
    });
    assert_eq!(
        rig.reason(),
        ExitReason::OnlyStoppedLeft("partition 0".to_owned())
    );
}

#[test]
fn a_group_without_its_section_is_not_started() {
    let mut config = config();
    config.source = None;
    config.web = None;
    let scripts: &[(GroupName, &'static [Does])] =
        &[(Ingest, &[Serve]), (Landing, &[Serve]), (Web, &[Serve])];
    let rig = Rig::start(config, scripts);
    rig.wait_for("landing 1 started");
    for off in ["ingest", "web"] {
        assert!(
            !rig.status.group(off).running.load(Ordering::Relaxed),
            "{off}"
        );
    }
    rig.drains();
}

#[test]
fn an_answer_comes_when_the_new_configuration_is_in_force() {
    let scripts: &[(GroupName, &'static [Does])] =
        &[(Ingest, &[Serve]), (Landing, &[Serve]), (Web, &[Serve])];
    let rig = Rig::start(config(), scripts);
    let mut new = config();
    new.kafka.topic = "other".to_owned();
    new.log.level = LogLevel::Trace;
    new.web = None;
    let expected = Applied {
        at_once: vec!["log.level".to_owned()],
        restarted: vec![
            restarted(Ingest, &["kafka.topic"], GroupState::Started),
            restarted(Landing, &["kafka.topic"], GroupState::Started),
            restarted(Web, &["kafka.topic", "web.listen"], GroupState::Off),
        ],
        ..Applied::default()
    };
    assert_eq!(rig.ask(Ok(new.clone())), Answer::Applied(expected));
    assert_eq!(rig.generation("landing"), 2);
    assert!(!rig.status.group("web").running.load(Ordering::Relaxed));
    let nothing = Applied::default();
    assert_eq!(rig.ask(Ok(new)), Answer::Applied(nothing));
    assert_eq!(rig.generation("landing"), 2);
    rig.drains();
}

#[test]
fn a_refused_reload_is_answered_with_all_mistakes() {
    let rig = Rig::start(config(), &[(Landing, &[Serve])]);
    let mistakes = vec!["line 3".to_owned(), "line 9".to_owned()];
    let refused = Answer::Refused {
        mistakes: mistakes.clone(),
    };
    assert_eq!(rig.ask(Err(mistakes)), refused);
    assert_eq!(rig.generation("landing"), 1);
    rig.drains();
}

#[test]
fn what_needs_a_restart_keeps_its_old_value_and_is_named_until_then() {
    let rig = Rig::start(config(), &[(Landing, &[Serve])]);
    let mut new = config();
    new.log.format = crate::config::LogFormat::Json;
    new.files.max_rows += 1;
    let Answer::Applied(applied) = rig.ask(Ok(new.clone())) else {
        panic!("not applied");
    };
    assert_eq!(applied.needs_restart, ["log.format"]);
    assert_eq!(applied.restarted.len(), 1);
    assert_eq!(rig.status.needs_restart(), ["log.format"]);
    // Asked again it is still not in force, and all else has not changed any more.
    let Answer::Applied(again) = rig.ask(Ok(new)) else {
        panic!("not applied");
    };
    assert_eq!(again.needs_restart, ["log.format"]);
    assert_eq!(again.restarted, []);
    assert_eq!(
        rig.ask(Ok(config())),
        Answer::Applied(Applied {
            restarted: vec![restarted(Landing, &["files.max_rows"], GroupState::Started)],
            ..Applied::default()
        })
    );
    assert_eq!(rig.status.needs_restart(), [""; 0]);
    rig.drains();
}

#[test]
fn reloads_that_overlap_are_answered_each_in_their_order() {
    let rig = Rig::start(config(), &[(Landing, &[DrainForEver, Serve])]);
    rig.wait_for("landing 1 started");
    let (order, answered) = events::channel();
    let ask = |number: u32, config: Result<Config, Vec<String>>| {
        *rig.on_disk.lock().unwrap() = config;
        let (reloader, order) = (rig.reloader.clone(), order.clone());
        std::thread::spawn(move || {
            let answer = answer(reloader.reload());
            order.send((number, answer)).unwrap();
        });
    };
    let mut new = config();
    new.limits.drain = Duration::from_millis(200);
    new.files.max_rows += 1;
    ask(1, Ok(new));
    rig.wait_for("landing 1 draining");
    ask(2, Err(vec!["line 3".to_owned()]));
    let numbers: Vec<u32> = (0..2)
        .map(|_| answered.recv_timeout(PATIENCE).unwrap().0)
        .collect();
    assert_eq!(numbers, [1, 2]);
    rig.drains();
}

#[test]
fn what_answers_is_restarted_after_its_answers() {
    let scripts: &[(GroupName, &'static [Does])] = &[(Landing, &[Serve]), (Control, &[Serve])];
    let rig = Rig::start(config(), scripts);
    let mut new = config();
    new.status.socket = Some("/elsewhere.sock".into());
    new.files.max_rows += 1;
    let expected = Applied {
        restarted: vec![
            restarted(Landing, &["files.max_rows"], GroupState::Started),
            restarted(Control, &["status.socket"], GroupState::Follows),
        ],
        ..Applied::default()
    };
    assert_eq!(rig.ask(Ok(new)), Answer::Applied(expected));
    let before = rig.wait_for("control 2 started");
    let position = |event: &str| before.iter().position(|said| said == event).unwrap();
    assert!(position("landing 1 drained") < position("control 1 drained"));
    rig.drains();
}

#[test]
fn a_group_that_fails_with_the_new_configuration_is_said_to() {
    let rig = Rig::start(config(), &[(Landing, &[Serve]), (Web, &[Serve, Fail])]);
    let mut new = config();
    new.supervision.backoff = Duration::from_secs(3600);
    new.supervision.backoff_max = Duration::from_secs(3600);
    new.web = None;
    assert!(matches!(rig.ask(Ok(new.clone())), Answer::Applied(_)));
    new.web = config().web;
    let Answer::Applied(applied) = rig.ask(Ok(new)) else {
        panic!("not applied");
    };
    assert!(matches!(
        applied.restarted[0].state,
        GroupState::Started | GroupState::Failed
    ));
    rig.wait_for_trouble("group web", true);
    rig.drains();
}

#[test]
fn a_process_that_ends_says_so_to_who_waits_for_a_reload() {
    let rig = Rig::start(config(), &[(Landing, &[DrainForEver])]);
    rig.wait_for("landing 1 started");
    let mut new = config();
    new.files.max_rows += 1;
    *rig.on_disk.lock().unwrap() = Ok(new);
    let reloader = rig.reloader.clone();
    let waits = std::thread::spawn(move || answer(reloader.reload()));
    rig.wait_for("landing 1 draining");
    rig.signal(Signal::End);
    assert_eq!(waits.join().unwrap(), Answer::Ending);
    rig.signal(Signal::End);
    assert_eq!(rig.reason(), ExitReason::Interrupted);
}

#[test]
fn a_heartbeat_holds_at_once() {
    let mut old = config();
    old.supervision.heartbeat = Duration::from_secs(3600);
    let rig = Rig::start(old.clone(), &[(Landing, &[Hang, Serve])]);
    rig.wait_for("landing 1 started");
    let mut new = old;
    new.supervision.heartbeat = Duration::from_millis(50);
    let Answer::Applied(applied) = rig.ask(Ok(new)) else {
        panic!("not applied");
    };
    assert_eq!(applied.at_once, ["supervision.heartbeat"]);
    assert_eq!(applied.restarted, []);
    rig.wait_for("landing 1 stopped");
    rig.drains();
}

/// Each row by itself, through a file, on a whole process.
#[test]
fn a_changed_key_does_exactly_what_its_row_says() {
    let scripts: &[(GroupName, &'static [Does])] = &[
        (Ingest, &[Serve]),
        (Landing, &[Serve]),
        (Web, &[Serve]),
        (Control, &[Serve]),
    ];
    for (row, before, after) in super::effect::tests::changes() {
        let level = after.log.level;
        let rig = Rig::start(before.clone(), scripts);
        let is_running = |group: GroupName| group.is_configured(&before);
        for (group, _) in scripts.iter().filter(|(group, _)| is_running(*group)) {
            while rig.generation(group.as_str()) == 0 {
                std::thread::yield_now();
            }
        }
        let Answer::Applied(applied) = rig.ask(Ok(after.clone())) else {
            panic!("{} not applied", row.key);
        };
        let key = vec![row.key.to_owned()];
        let (at_once, needs_restart, groups) = match row.effect {
            Effect::AtOnce => (key.clone(), Vec::new(), &[][..]),
            Effect::NeedsRestart(_) => (Vec::new(), key.clone(), &[][..]),
            Effect::Restarts(groups) => (Vec::new(), Vec::new(), groups),
        };
        assert_eq!(applied.at_once, at_once);
        assert_eq!(applied.needs_restart, needs_restart);
        let said: Vec<_> = applied.restarted.iter().map(|one| &*one.group).collect();
        let expected: Vec<_> = groups.iter().map(|group| group.as_str()).collect();
        assert_eq!(said, expected, "{}", row.key);
        for (group, _) in scripts {
            let before = u64::from(is_running(*group));
            let restarts = groups.contains(group) && group.is_configured(&after);
            let number = before + u64::from(restarts);
            if *group == Control && restarts {
                rig.wait_for("control 2 started");
            }
            assert_eq!(
                rig.generation(group.as_str()),
                number,
                "{} of {}",
                row.key,
                group.as_str()
            );
        }
        if row.key == "log.level" {
            assert!(rig.level.lets_pass(slog::Level::Debug), "{level:?}");
        }
        rig.drains();
    }
}

//! What systemd is told (`sd_notify`): that the service is ready, what it does, that it lives, that
//! it reloads and that it ends. Without `NOTIFY_SOCKET` nothing is said.
//!
//! A few lines of our own over a datagram socket, because the crate that the journal brings in
//! reads the environment with each message, waits where systemd does not read, and cannot be shown
//! another socket by a test.
//!
//! A hang is met first by the supervisor, then by systemd. An actor, or a group's thread, that
//! makes no progress for `supervision.heartbeat` (60 s) has its group restarted within the process,
//! which takes [`GONE_WITHIN`](crate::supervisor::GONE_WITHIN) (30 s) at most. From the moment at
//! which the hang is seen the watchdog is not fed, and it was fed at most half of its time before;
//! with `WatchdogSec=` of more than twice those 30 s (the units have 120 s) it bites only where
//! the restart was of no use: a thread of ingest or of the page that does not end, and a hang of
//! the supervisor itself.

use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::status::snapshot::{Health, Snapshot};

/// READY comes after so long at the latest, with a STATUS that says what is waited for: a broker
/// that is away must not fail the boot. Far below systemd's `TimeoutStartSec` (90 s).
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Who waits for READY is not kept waiting longer than this; a start is over in seconds.
const STARTING_LOOK: Duration = Duration::from_millis(250);
/// How often STATUS is composed; it is sent where it has changed.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// A drain of `limits.drain` is followed by what is cut off and by the last lines of the log.
const AFTER_DRAIN: Duration = Duration::from_secs(10);
/// systemd reads 4,096 bytes of a message; what is wrong is cut to this.
const TROUBLE_CHARACTERS_MAX: usize = 300;

/// What is told from where the supervisor stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Whether the group has been joined and the store has answered.
    pub is_joined: bool,
    /// Whether every running group makes progress.
    pub is_alive: bool,
    /// In one sentence.
    pub status: String,
}

/// Tells systemd, in the turns of the supervisor's own loop: a loop that hangs feeds no watchdog.
#[derive(Debug)]
pub struct Notifier {
    /// `None`: nobody listens.
    socket: Option<Socket>,
    told: Told,
}

/// What was told, and when the next is due.
#[derive(Debug)]
struct Told {
    since: Instant,
    /// systemd takes the process for hung without a sign for twice this.
    feed_every: Option<Duration>,
    is_ready: bool,
    status: String,
    look_at: Instant,
    feed_at: Instant,
}

#[derive(Debug)]
struct Socket {
    datagrams: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// Tells whoever `NOTIFY_SOCKET` names. The variable stays: the process starts no other that
    /// it could leak to.
    pub fn from_environment() -> Self {
        let of = |name: &str| std::env::var(name).ok();
        let (usec, pid) = (of("WATCHDOG_USEC"), of("WATCHDOG_PID"));
        let feed_every = feed_every(usec.as_deref(), pid.as_deref(), std::process::id());
        Self::telling(of("NOTIFY_SOCKET").as_deref(), feed_every)
    }

    /// Tells this socket; a sign of life is due as often as this.
    pub(crate) fn telling(socket: Option<&str>, feed_every: Option<Duration>) -> Self {
        Self {
            socket: socket.and_then(|path| Socket::open(path).ok()),
            told: Told::new(feed_every, Instant::now()),
        }
    }

    /// Tells nobody.
    pub fn silent() -> Self {
        Self::telling(None, None)
    }

    /// When something may be due; `None`: nobody listens.
    pub fn due_at(&self) -> Option<Instant> {
        self.socket.as_ref().map(|_| self.told.due_at())
    }

    /// Says what is due, of which `view` is only asked then.
    pub fn look(&mut self, now: Instant, view: impl FnOnce() -> View) {
        let Some(socket) = self.socket.as_ref().filter(|_| now >= self.told.due_at()) else {
            return;
        };
        let message = self.told.next(now, &view());
        // Where systemd does not read for the moment, the same is said again.
        if !message.is_empty() && !socket.send(&message) {
            self.told.forget();
        }
    }

    /// A reload begins.
    pub fn reloading(&self) {
        if let Some(socket) = self.socket.as_ref().filter(|_| self.told.is_ready) {
            socket.send(&reloading(monotonic_usec()));
        }
    }

    /// A reload has been decided; whoever waits for it goes on.
    pub fn reloaded(&mut self, now: Instant) {
        if let Some(socket) = self.socket.as_ref().filter(|_| self.told.is_ready) {
            socket.send("READY=1\n");
        }
        // What it changed is to be seen at once.
        self.told.look_at = now;
    }

    /// The process begins to end, and may take so long for its drain.
    pub fn stopping(&mut self, drain: Duration) {
        if let Some(socket) = &self.socket {
            socket.send(&stopping(drain));
            self.told.status.clear();
        }
    }
}

impl Socket {
    /// A path, or with `@` in front an abstract name.
    fn open(path: &str) -> io::Result<Self> {
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(path)?,
        };
        let datagrams = UnixDatagram::unbound()?;
        // The supervisor waits for nobody.
        datagrams.set_nonblocking(true)?;
        Ok(Self { datagrams, address })
    }

    fn send(&self, message: &str) -> bool {
        let sent = self
            .datagrams
            .send_to_addr(message.as_bytes(), &self.address);
        sent.is_ok()
    }
}

impl Told {
    fn new(feed_every: Option<Duration>, now: Instant) -> Self {
        Self {
            since: now,
            feed_every,
            is_ready: false,
            status: String::new(),
            look_at: now,
            feed_at: now,
        }
    }

    fn due_at(&self) -> Instant {
        match self.feed_every {
            Some(_) => self.look_at.min(self.feed_at),
            None => self.look_at,
        }
    }

    /// The message that is due; empty: none is.
    fn next(&mut self, now: Instant, view: &View) -> String {
        let mut message = String::new();
        if !self.is_ready && (view.is_joined || now.duration_since(self.since) >= READY_WITHIN) {
            self.is_ready = true;
            message.push_str("READY=1\n");
        }
        if view.status != self.status {
            self.status.clone_from(&view.status);
            // Writing to a String cannot fail.
            let _ = writeln!(message, "STATUS={}", view.status);
        }
        let every = if self.is_ready {
            STATUS_EVERY
        } else {
            STARTING_LOOK
        };
        self.look_at = now + every;
        if let Some(feed_every) = self.feed_every
            && now >= self.feed_at
        {
            if view.is_alive {
                message.push_str("WATCHDOG=1\n");
                self.feed_at = now + feed_every;
            } else {
                self.feed_at = self.look_at;
            }
        }
        message
    }

    /// What was told last did not arrive. READY is repeated as it is: once more does no harm.
    fn forget(&mut self) {
        self.is_ready = false;
        self.status.clear();
        self.feed_at = self.look_at;
    }
}

/// Half of what `WATCHDOG_USEC` allows; `None`: there is no watchdog, or it is another process's.
fn feed_every(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let usec: u64 = usec?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec) / 2)
}

fn reloading(monotonic_usec: u64) -> String {
    format!("RELOADING=1\nMONOTONIC_USEC={monotonic_usec}\n")
}

/// systemd kills what outlasts `TimeoutStopSec`; a longer `limits.drain` is asked for.
fn stopping(drain: Duration) -> String {
    let usec = (drain + AFTER_DRAIN).as_micros();
    let words = humantime::format_duration(drain);
    format!(
        "STOPPING=1\nSTATUS=ends: lands what is open, for {words} at most\nEXTEND_TIMEOUT_USEC={usec}\n"
    )
}

fn monotonic_usec() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// The process in one sentence: what is wrong, what it waits for, what it has done. `joins`: it has
/// not joined its group yet.
pub fn sentence(snapshot: &Snapshot, config: &Config, joins: bool) -> String {
    let mut parts = Vec::new();
    parts.extend(wrong(snapshot));
    if joins {
        parts.push(start(snapshot, config));
    } else {
        parts.push(landed(snapshot));
    }
    clean(&parts.join("; "))
}

/// The gravest of what is wrong.
fn wrong(snapshot: &Snapshot) -> Option<String> {
    let mut all = snapshot.unhealthy.clone();
    let degrading = snapshot.troubles.iter().filter(|one| !one.unhealthy);
    all.extend(degrading.map(|one| format!("{}: {}", one.place, one.text)));
    let health = match snapshot.health {
        Health::Healthy => return None,
        Health::Degraded => "degraded",
        Health::Unhealthy => "unhealthy",
    };
    let first = all.first()?;
    let mut words: String = first.chars().take(TROUBLE_CHARACTERS_MAX).collect();
    if words.len() < first.len() {
        words.push_str("...");
    }
    Some(match all.len() {
        1 => format!("{health}: {words}"),
        count => format!("{health}: {words} (and {} more)", count - 1),
    })
}

fn start(snapshot: &Snapshot, config: &Config) -> String {
    let claiming = snapshot.partitions.iter();
    let claiming = claiming.filter(|one| one.state == "claiming").count();
    let kafka = &config.kafka;
    match claiming {
        0 => format!(
            "waits for {} to let it into the group {} of the topic {}",
            kafka.brokers.join(", "),
            kafka.group,
            kafka.topic
        ),
        count => format!("waits for the store's word on {count} partitions"),
    }
}

fn landed(snapshot: &Snapshot) -> String {
    let ours = snapshot.partitions.iter();
    let ours: Vec<_> = ours.filter(|one| one.state != "not_ours").collect();
    let lag: i64 = ours.iter().filter_map(|one| one.lag_records).sum();
    let landed: u64 = snapshot
        .partitions
        .iter()
        .map(|one| one.records_landed)
        .sum();
    let mut words = format!(
        "{landed} records landed since the start, lag {lag} in {} partitions",
        ours.len()
    );
    if let Some(file) = &snapshot.last_file {
        let _ = write!(words, "; last file {} ({} rows)", file.key, file.rows);
    }
    words
}

/// A line break would begin another word to systemd.
fn clean(words: &str) -> String {
    words.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{LandedFile, PartitionState, Status};
    use std::sync::atomic::Ordering::Relaxed;

    const MAX_AGE: Duration = Duration::from_secs(300);
    const FEED: Duration = Duration::from_secs(60);

    fn view(status: &str) -> View {
        View {
            is_joined: true,
            is_alive: true,
            status: status.to_owned(),
        }
    }

    fn joining() -> View {
        View {
            is_joined: false,
            ..view("waits")
        }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn ready_is_said_once_when_the_group_is_joined() {
        let start = Instant::now();
        let mut told = Told::new(None, start);
        assert_eq!(told.next(start, &joining()), "STATUS=waits\n");
        assert_eq!(told.due_at(), start + STARTING_LOOK);
        let said = told.next(after(start, 1), &view("lands"));
        assert_eq!(said, "READY=1\nSTATUS=lands\n");
        assert_eq!(told.next(after(start, 6), &view("lands")), "");
    }

    #[test]
    fn an_absent_broker_delays_ready_and_never_prevents_it() {
        let start = Instant::now();
        let mut told = Told::new(None, start);
        assert_eq!(told.next(after(start, 29), &joining()), "STATUS=waits\n");
        assert_eq!(told.next(after(start, 30), &joining()), "READY=1\n");
    }

    #[test]
    fn a_status_is_only_sent_where_it_has_changed() {
        let start = Instant::now();
        let mut told = Told::new(None, start);
        told.next(start, &view("a"));
        assert_eq!(told.due_at(), start + STATUS_EVERY);
        assert_eq!(told.next(after(start, 5), &view("a")), "");
        assert_eq!(told.next(after(start, 10), &view("b")), "STATUS=b\n");
    }

    #[test]
    fn the_watchdog_is_fed_only_while_all_make_progress() {
        let start = Instant::now();
        let mut told = Told::new(Some(FEED), start);
        let hung = View {
            is_alive: false,
            ..view("a")
        };
        assert!(told.next(start, &view("a")).ends_with("WATCHDOG=1\n"));
        assert_eq!(told.next(after(start, 5), &view("a")), "", "not due");
        assert_eq!(told.next(after(start, 60), &hung), "");
        assert_eq!(told.due_at(), after(start, 65), "looked at again");
        assert_eq!(told.next(after(start, 65), &view("a")), "WATCHDOG=1\n");
        assert_eq!(told.feed_at, after(start, 125));
    }

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time_and_only_if_it_is_ours() {
        let of = |usec, pid| feed_every(usec, pid, 7);
        assert_eq!(of(Some("120000000"), Some("7")), Some(FEED));
        assert_eq!(of(Some("120000000"), None), Some(FEED));
        assert_eq!(of(Some("120000000"), Some("8")), None);
        assert_eq!(of(None, Some("7")), None);
        assert_eq!(of(Some("0"), None), None);
        assert_eq!(of(Some("soon"), None), None);
    }

    #[test]
    fn a_message_that_did_not_arrive_is_said_again() {
        let start = Instant::now();
        let mut told = Told::new(Some(FEED), start);
        let first = told.next(start, &view("a"));
        told.forget();
        let again = told.next(told.due_at(), &view("a"));
        assert_eq!(first, "READY=1\nSTATUS=a\nWATCHDOG=1\n");
        assert_eq!(again, first);
    }

    #[test]
    fn a_drain_longer_than_systemd_allows_is_asked_for() {
        let said = stopping(Duration::from_secs(120));
        assert!(said.starts_with("STOPPING=1\n"), "{said}");
        assert!(said.ends_with("\nEXTEND_TIMEOUT_USEC=130000000\n"));
    }

    /// In the order in which a service lives.
    #[test]
    fn a_socket_hears_the_whole_life() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let hear = || {
            let mut buffer = [0; 4096];
            let length = systemd.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        let now = Instant::now();
        let mut notifier = Notifier::telling(path.to_str(), None);
        let now = now + STARTING_LOOK;
        notifier.reloading();
        notifier.look(now, || view("lands"));
        assert_eq!(
            hear(),
            "READY=1\nSTATUS=lands\n",
            "no reload before the start"
        );
        notifier.reloading();
        notifier.reloaded(now);
        let reloading = hear();
        let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let since: u64 = since.unwrap().trim_end().parse().unwrap();
        assert!(since > 0 && since <= monotonic_usec());
        assert_eq!(hear(), "READY=1\n");
        notifier.stopping(Duration::from_secs(20));
        assert!(hear().starts_with("STOPPING=1\nSTATUS="));
        drop(systemd);
        notifier.look(after(now, 5), || view("drains"));
        assert_eq!(
            notifier.due_at(),
            Some(after(now, 10)),
            "nobody there is no end"
        );
    }

    #[test]
    fn without_a_socket_nothing_is_due_and_nothing_composed() {
        let mut notifier = Notifier::silent();
        assert_eq!(notifier.due_at(), None);
        notifier.look(Instant::now(), || panic!("composed for nobody"));
    }

    #[test]
    fn the_sentence_says_what_landed_what_is_left_and_what_is_wrong() {
        let status = Status::new();
        let config = crate::testing::config();
        let partition = status.partition("t", 0);
        partition.set_state(PartitionState::Landing);
        partition.next_offset.store(5, Relaxed);
        partition.log_end.store(8, Relaxed);
        partition.records_landed.store(5, Relaxed);
        status.landed(LandedFile {
            key: "a/b.parquet".to_owned(),
            rows: 5,
            bytes: 9,
            landed_at_ms: 0,
        });
        let say = |joins| sentence(&status.snapshot(MAX_AGE), &config, joins);
        let well = "5 records landed since the start, lag 3 in 1 partitions; last file a/b.parquet (5 rows)";
        assert_eq!(say(false), well);
        status.trouble("source", "it is\nREADY=1", false);
        status.trouble("store", "away", false);
        assert_eq!(
            say(false),
            format!("degraded: source: it is READY=1 (and 1 more); {well}")
        );
        status.trouble("topic", &"x".repeat(9000), true);
        assert!(say(false).starts_with("unhealthy: topic: xxx"));
        assert!(say(false).len() < 2000);
    }

    #[test]
    fn the_sentence_of_a_start_names_what_is_waited_for() {
        let status = Status::new();
        let config = crate::testing::config();
        let say = || sentence(&status.snapshot(MAX_AGE), &config, true);
        assert_eq!(
            say(),
            "waits for 127.0.0.1:9 to let it into the group groundtrack of the topic project_topic"
        );
        status.partition("t", 0).set_state(PartitionState::Claiming);
        status.trouble("the store", "away", false);
        assert_eq!(
            say(),
            "degraded: the store: away; waits for the store's word on 1 partitions"
        );
    }
}

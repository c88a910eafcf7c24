//! What an operator looks for in the log: each event has a name and the journal's message id, by
//! which `journalctl -x` finds what `systemd/groundtrack.catalog` says of it.
//!
//! A line is of an event by naming it among its values: `info!(log, "..."; events::READY, ...)`. It
//! is then the field `event` of every format, and in the journal `MESSAGE_ID` and `EVENT`.

use slog::{KV, Record, Serializer};

/// The key under which an event is among a line's values.
pub(super) const KEY: &str = "event";

/// Something that happened, of which an operator wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// For people and filters.
    pub name: &'static str,
    /// The journal's message id; it never changes.
    pub id: u128,
    /// Whether a line that tells nothing bad goes out as a notice, above the other lines of its
    /// level.
    pub is_notice: bool,
}

impl KV for Event {
    fn serialize(&self, _: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        serializer.emit_str(KEY, self.name)
    }
}

impl Event {
    /// As `MESSAGE_ID` has it.
    pub fn message_id(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// The event of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|event| event.name == name)
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $constant:ident = $name:literal, $id:literal $(, $notice:ident)?;)*) => {
        $($(#[$doc])* pub const $constant: Event = Event {
            name: $name,
            id: $id,
            is_notice: events!(@ $($notice)?),
        };)*

        /// All of them.
        pub const ALL: &[Event] = &[$($constant),*];
    };
    (@ notice) => { true };
    (@) => { false };
}

events! {
    /// The process begins.
    STARTED = "started", 0x0c9663dc344b4a34ae1c8abc4ef811fd, notice;
    /// The group is joined and the store has answered.
    READY = "ready", 0x1b8c3b17cd2440e8877c53fe985c1c74, notice;
    /// It was asked to end.
    STOPPING = "stopping", 0x404704410aad41f4b33b46033ae750c0, notice;
    /// It ended, and how.
    ENDED = "ended", 0x91813168555940b895a65c611ff52481, notice;
    /// It ends because it cannot go on.
    GAVE_UP = "gave-up", 0x989a675af12841d3b45911cf1a2c56c9;
    /// Another process has this `instance_id`.
    FENCED = "fenced", 0xcba4ee07917a4aa48575c751b0bdbadc;
    /// A changed configuration is in effect.
    RELOADED = "reloaded", 0x35d3392a5c384a63b594d84f938373fe, notice;
    /// A changed configuration is not valid.
    RELOAD_REFUSED = "reload-refused", 0x824d2cb72e514e899507b91e4cee5acf;
    /// A group of actors failed and is started again.
    GROUP_RESTARTED = "group-restarted", 0x2a1b230493a74af286462a2014307ca9;
    /// A group that failed runs again.
    GROUP_RECOVERED = "group-recovered", 0xe9c361bbe38d492086528e87dfdc11a1, notice;
    /// An actor makes no progress.
    ACTOR_HUNG = "actor-hung", 0x48126a23284f493fb62aa2f57af5d7c1;
    /// A bug: some code panicked.
    PANICKED = "panicked", 0xb3be9c7497f046a2b15ddc802df64a4c;
    /// A file has landed.
    LANDED = "landed", 0x8142c2f4419e4e459218495ed223d239;
    /// Kafka deleted records before they landed.
    PARTITION_GAP = "partition-gap", 0x19ff614adc0447f880e36ae1d961d2bd;
    /// Kafka holds another log than the one that was landed.
    OTHER_LOG = "other-log", 0xb12e899978db4b09868b488c52ffda8c;
    /// Somebody else's objects are where ours belong.
    FOREIGN = "foreign", 0xc928177df1774bf9a0bfdd5bd188fdaf;
    /// A record of Kafka's log cannot be read.
    UNREADABLE = "unreadable", 0x0475bc71c6d24aff9e6e8325ebc34aab;
    /// A partition cannot go on for another reason.
    PARTITION_STOPPED = "partition-stopped", 0xda9f931a11484d7caef80eb7ad7649e7;
    /// A partition that had stopped goes on.
    PARTITION_RESUMED = "partition-resumed", 0xd4905c0897724397a0529bf531df14a6, notice;
    /// The operator's word lets a partition pass what is lost.
    GAP_PASSED = "gap-passed", 0xfaa27efd50b84fff951c349596ff0a87;
    /// Another writer took a partition.
    OVERTAKEN = "overtaken", 0x86a14c4c71304fc7ab65f29ce31460de;
    /// Records do not fit the table.
    DEAD_LETTERS = "dead-letters", 0x60eb35ee0e4d4056a0e3564baf0fd1e5;
    /// Records fit the table again.
    DEAD_LETTERS_ENDED = "dead-letters-ended", 0xf660da42386b46d7ac3b27571ccb2692, notice;
    /// Kafka may delete records before they land.
    RETENTION_NEAR = "retention-near", 0xffbf74822e65456a9b492f112923dc80;
    /// Kafka keeps records long enough again.
    RETENTION_SAFE = "retention-safe", 0x70af051b7dfd4561b763dbc25ed4463c, notice;
    /// The object store does not do what it is asked.
    STORE_UNREACHABLE = "store-unreachable", 0xd34fa11a28b74c5e9f6257b9e35b92ad;
    /// The object store answers again.
    STORE_BACK = "store-back", 0xc4599b2649924e7b9aad2e3c07071e25, notice;
    /// The object store ignores what exactly-once needs.
    STORE_UNFIT = "store-unfit", 0xfcf1b40bba5a4159846da77f562e8182;
    /// Kafka does not answer.
    BROKER_UNREACHABLE = "broker-unreachable", 0x0e1e6dce15e94a3cbfe4e54fcb21f158;
    /// Kafka answers again.
    BROKER_BACK = "broker-back", 0xd6b4bb8a29554e5dab8a39d2b1e22ab8, notice;
    /// The topic does not exist.
    TOPIC_MISSING = "topic-missing", 0x55643103b3c14074a64b22bdf893ace4;
    /// The topic is there.
    TOPIC_BACK = "topic-back", 0x13613b063f604fd2aed0e1539dd67bae, notice;
    /// The source gives nothing to publish.
    SOURCE_FAILS = "source-fails", 0xb01c15c5c92f419f9f2c5b6c1754ffff;
    /// The source answers again.
    SOURCE_BACK = "source-back", 0x61099417f68244788a1a2838071aa26d, notice;
    /// The source answers the same again and again.
    SOURCE_FROZEN = "source-frozen", 0x5eb378b251824b78a431798aee82db7e;
    /// The source's answers change again.
    SOURCE_MOVES = "source-moves", 0x0423b443787c47e39e62860e896f083c, notice;
    /// Samples cannot be published.
    PUBLISHING_FAILS = "publishing-fails", 0x28b7ed30e7b34a8c86ac7cab13da9443;
    /// Samples are published again.
    PUBLISHING_BACK = "publishing-back", 0x7eab605f423d49f5aa5810b2e7af0872, notice;
    /// Samples that Kafka never took are gone.
    SAMPLES_LOST = "samples-lost", 0x8d637b63b68a4fbb88a5c0f28558d9ba;
    /// The journal did not take lines of the log.
    LINES_LOST = "lines-lost", 0x7affc3419141416d896bc32abfa4dd82;
}

#[cfg(test)]
mod tests;

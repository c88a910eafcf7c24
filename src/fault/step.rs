//! Every step from poll to commit, and what a fault at each comes to. `docs/fault-points.md` is
//! this table.

/// What is done about an error at a step. It also tells what a test has to see.
#[cfg(debug_assertions)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The same is done again until it succeeds.
    Again,
    /// The generation of its group ends, and the next one goes on from the checkpoint.
    Restart,
    /// The drain fails, and says so; the next start lands what it left.
    Left,
    /// The partition stops and says why; the next claim looks again.
    Stop,
    /// It is done without.
    GoOn,
}

/// Whose work a step is: what a panic in it ends.
#[cfg(debug_assertions)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// An actor of the ingest group.
    Ingest(&'static str),
    /// An actor of the landing group.
    Landing(&'static str),
    /// The consumer's thread of the landing group.
    Consumer,
    /// The consumer's thread as it leaves: its end, by a panic too, is what was wanted.
    Leaver,
    /// The generation's own task, which starts and drains the actors.
    Group(&'static str),
}

/// What is known of a step.
#[cfg(debug_assertions)]
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// As a plan and the table name it.
    pub name: &'static str,
    /// Whose work it is.
    pub by: By,
    /// What there is behind it that was not there before.
    pub effect: &'static str,
    /// What an error of it is.
    pub error: &'static str,
    /// What is done about that error.
    pub then: Then,
    /// How that ends well, in words.
    pub ends: &'static str,
    /// Whether a delay longer than the heartbeat counts as a hang; else it is a wait that the
    /// actor has named, and nothing is done about it.
    pub is_watched: bool,
    /// Whether it is a put under a condition, which has errors of its own: 409 before it took
    /// effect, 412 behind it.
    pub is_put: bool,
}

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident $name:literal $by:expr, $effect:literal, $error:literal => $then:ident $ends:literal, $($flag:ident)*;)*) => {
        /// A step on the way from poll to commit.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Step {
            $($(#[$doc])* $step,)*
        }

        #[cfg(debug_assertions)]
        impl Step {
            /// All of them, in the order of the data.
            pub const ALL: &'static [Step] = &[$(Step::$step),*];

            /// What is known of it.
            pub fn row(self) -> Row {
                match self {
                    $(Step::$step => Row {
                        name: $name,
                        by: $by,
                        effect: $effect,
                        error: $error,
                        then: Then::$then,
                        ends: $ends,
                        is_watched: flags(&[$(stringify!($flag)),*], "watched"),
                        is_put: flags(&[$(stringify!($flag)),*], "put"),
                    },)*
                }
            }
        }
    };
}

#[cfg(debug_assertions)]
fn flags(given: &[&str], wanted: &str) -> bool {
    given.contains(&wanted)
}

steps! {
    // Ingest.
    /// The poller asks the source.
    Poll "poll" By::Ingest("poller"),
        "the source was asked and has answered",
        "the answer breaks off" => Again "the source is asked again after a back-off; what was not answered is not published", ;
    /// A sample goes from the poller to the publisher.
    HandSample "hand-sample" By::Ingest("poller"),
        "the publisher holds the answer",
        "the publisher is gone" => Restart "what it held is delivered first; an answer that was not yet held is polled anew", watched;
    /// The publisher looks whether the topic exists.
    FindTopic "find-topic" By::Ingest("publisher"),
        "the publisher knows that the topic exists",
        "no broker answers" => Again "samples are held until one does", ;
    /// A sample goes to librdkafka.
    Produce "produce" By::Ingest("publisher"),
        "librdkafka has the sample and sends it",
        "librdkafka's queue is full" => Again "the sample is held and sent again", watched;
    /// A delivery report comes.
    DeliveryReport "delivery-report" By::Ingest("publisher"),
        "the publisher forgets the sample, which Kafka has",
        "the report is lost" => Again "the sample is sent again: the topic may hold it twice, and both land", ;
    /// The drain asks the publisher to publish what it holds.
    Flush "flush" By::Group("ingest"),
        "Kafka has every sample",
        "the publisher is gone" => GoOn "its producer delivers what it has under way; what is left is counted and said", ;

    /// The publisher has failed: what its producer has under way is delivered.
    DeliverRest "deliver-rest" By::Group("ingest"),
        "Kafka has what librdkafka had",
        "the work is cancelled" => GoOn "librdkafka delivers until the producer is dropped", ;

    // Landing starts.
    /// The generation asks for the topic before it joins.
    AwaitTopic "await-topic" By::Group("landing"),
        "it is known that the topic exists",
        "no broker answers" => Again "asked until one does", ;
    /// `--until-caught-up` asks how far it is to land.
    AskEnds "ask-ends" By::Group("landing"),
        "the ends of all partitions are known",
        "no broker answers" => Again "asked until one does", ;
    /// Under KIP-848 the broker is asked how long a session is.
    AskSession "ask-session" By::Group("landing"),
        "the group's session is known",
        "no broker answers" => GoOn "the longest that brokers allow by default is assumed", ;
    /// The consumer is made and subscribes.
    Join "join" By::Consumer,
        "the group has a member more",
        "librdkafka refuses" => Restart "the next generation joins", watched;

    // The consumer's thread.
    /// The consumer's events are polled.
    PollEvents "poll-events" By::Consumer,
        "rebalances, statistics and errors are heard",
        "no broker is connected" => GoOn "said, and polled again", watched;
    /// New partitions are forwarded, paused, and assigned at an absolute offset.
    Assign "assign" By::Consumer,
        "librdkafka has the partitions, paused",
        "librdkafka refuses" => GoOn "the seek behind the claim fails, and the partition is assigned anew", watched;
    /// A message of the thread's goes to the subscriber.
    HandEvent "hand-event" By::Consumer,
        "the subscriber knows what to claim and to release",
        "the subscriber is gone" => Restart "the thread leaves the group", watched;
    /// A partition is sought to our own next offset.
    Seek "seek" By::Consumer,
        "the partition is read from our own next offset",
        "the seek is refused or late" => Again "sought again; at last the partition is assigned anew", watched;
    /// A partition that was sought is resumed.
    Resume "resume" By::Consumer,
        "records come",
        "librdkafka refuses" => Again "sought and resumed again", watched;
    /// The leaders of resumed partitions are woken.
    WakeLeaders "wake-leaders" By::Consumer,
        "records come at once",
        "no answer in time" => GoOn "records come a second later", watched;
    /// Records are taken from librdkafka's queue.
    Take "take" By::Consumer,
        "librdkafka no longer holds them",
        "the queue fails" => GoOn "every partition is sought to our own next offset, and read again from there", watched;
    /// Silent partitions are asked for their positions.
    AskPosition "ask-position" By::Consumer,
        "holes at the end are seen",
        "librdkafka does not know" => Again "asked again a second later", watched;
    /// A partition is paused: its range is read, or its claim has ended.
    Pause "pause" By::Consumer,
        "nothing more of it comes",
        "librdkafka refuses" => GoOn "what comes is dropped: the partition is sought before it is read again", watched;
    /// A block goes from the thread to the subscriber.
    HandBlock "hand-block" By::Consumer,
        "the subscriber has the records",
        "the subscriber is gone" => Restart "the thread leaves the group", watched;
    /// An offset is committed to Kafka.
    Commit "commit" By::Consumer,
        "lag tools see the progress",
        "the coordinator is away" => GoOn "the checkpoint decides; the next batch commits again", watched;
    /// Partitions that were taken away are unassigned.
    Revoke "revoke" By::Consumer,
        "the group may give them to another",
        "librdkafka refuses" => GoOn "the claim has ended, and nothing of it lands", watched;
    /// The thread leaves: all is unassigned before the consumer is destroyed.
    Leave "leave" By::Leaver,
        "the group has a member less",
        "librdkafka refuses" => GoOn "closing the consumer unassigns", ;

    // The claim.
    /// A claim goes from the subscriber to the checkpoint actor.
    HandClaim "hand-claim" By::Landing("subscriber"),
        "the partition is claimed and its answer has come",
        "the checkpoint actor is gone" => Restart "the next generation claims", ;
    /// The checkpoint is read.
    ReadCheckpoint "read-checkpoint" By::Landing("checkpoint"),
        "it is known where the partition stands",
        "no answer" => Again "read until it is answered", ;
    /// Without a checkpoint: are there objects of the partition?
    ListObjects "list-objects" By::Landing("checkpoint"),
        "it is known that no checkpoint was lost",
        "no answer" => Again "listed until it is answered", ;
    /// Without a checkpoint: is there one of another partition?
    ReadSibling "read-sibling" By::Landing("checkpoint"),
        "it is known when the group began and with how many partitions",
        "no answer" => Again "listed until it is answered", ;
    /// The topic is asked for at a claim.
    ClaimAskTopic "claim-ask-topic" By::Landing("checkpoint"),
        "cluster and topic id are known",
        "no broker answers" => Again "asked until one does", ;
    /// The watermarks are asked for at a claim.
    ClaimAskLog "claim-ask-log" By::Landing("checkpoint"),
        "it is known what Kafka still holds",
        "no broker answers" => Again "asked until one does", ;
    /// Without a checkpoint: the group's committed offset, or that of a time.
    AskStart "ask-start" By::Landing("checkpoint"),
        "it is known where to start",
        "no broker answers" => Again "asked until one does", ;
    /// The record that landed last is read again.
    CompareLast "compare-last" By::Landing("checkpoint"),
        "it is known that the log is still the same",
        "no broker answers" => Again "asked until one does", ;
    /// The claim's epoch and writer are swapped in.
    ClaimSwap "claim-swap" By::Landing("checkpoint"),
        "the partition is ours, and an older writer is fenced",
        "no answer" => Again "the same bytes are put again under the same condition; 412 is ours if they read back", put;
    /// After a new checkpoint: do other groups have one with our folders?
    ReadGroups "read-groups" By::Landing("checkpoint"),
        "it is known that the folders are ours alone",
        "no answer" => Again "listed until it is answered", ;
    /// Whether the store honours conditions.
    Probe "probe" By::Landing("checkpoint"),
        "both puts were refused, as they must be",
        "no answer" => Again "probed until it is answered", ;
    /// A swap that met another content reads it.
    LookAtSwap "look-at-swap" By::Landing("checkpoint"),
        "it is known whether the swap was ours",
        "no answer" => Again "read until it is answered", ;
    /// A gap is begun by the operator's word.
    GapSwap "gap-swap" By::Landing("checkpoint"),
        "the lost range is pending, with its one key",
        "no answer" => Again "the same bytes are put again under the same condition; 412 is ours if they read back", put;
    /// A claim's answer goes from the subscriber to the thread.
    HandAnswer "hand-answer" By::Landing("subscriber"),
        "the thread knows from where to read",
        "the thread is gone" => Restart "the next generation claims", ;

    // Beside the way.
    /// The watch asks how long Kafka keeps what has not landed.
    WatchRetention "watch-retention" By::Landing("retention"),
        "it can be warned of a loss before it happens",
        "no broker answers" => GoOn "nothing is said of it until the next look", ;
    /// The watch asks what is where a partition's reading stands still.
    WatchStandstill "watch-standstill" By::Landing("standstill"),
        "damage is told from a pipeline that is full",
        "no broker answers" => Again "asked again while it stands still", ;

    // The way of a batch.
    /// An offset that cannot be read goes from the subscriber to the checkpoint actor.
    HandUnreadable "hand-unreadable" By::Landing("subscriber"),
        "the partition is stopped",
        "the checkpoint actor is gone" => Restart "what is before it has landed or is read again, and it is met again", ;
    /// Records go from the subscriber to the flattener.
    HandRecords "hand-records" By::Landing("subscriber"),
        "the flattener has the records",
        "the flattener is gone" => Restart "nothing of them was begun: they are read again", watched;
    /// A block is decoded.
    Decode "decode" By::Landing("flattener"),
        "records have become rows and rejects",
        "the work is cancelled" => Restart "nothing of it was begun: it is read again", watched;
    /// Rows go from the flattener to the accumulator.
    HandRows "hand-rows" By::Landing("flattener"),
        "the accumulator has the rows",
        "the accumulator is gone" => Restart "nothing of them was begun: they are read again", ;
    /// A block's rows are encoded into the open batch.
    Absorb "absorb" By::Landing("accumulator"),
        "the rows are in the open batch's files",
        "the encoder fails" => Restart "nothing of it was begun: it is read again", watched;
    /// A batch is closed.
    CloseBatch "close-batch" By::Landing("accumulator"),
        "the batch has its range and its keys",
        "the encoder fails" => Restart "nothing of it was begun: it is read again", watched;
    /// A file is encoded to its end.
    EncodeFile "encode-file" By::Landing("accumulator"),
        "the file has its footer",
        "the encoder fails" => Restart "nothing of it was begun: it is read again", watched;
    /// A closed batch goes from the accumulator to the uploader.
    HandBatch "hand-batch" By::Landing("accumulator"),
        "the uploader has the batch",
        "the uploader is gone" => Restart "nothing of it was begun, or it is pending: it is read again", watched;
    /// The intent goes from the uploader to the checkpoint actor.
    HandBegin "hand-begin" By::Landing("uploader"),
        "the batch is begun",
        "the checkpoint actor is gone" => Restart "a batch that was begun is read again, exactly", ;
    /// The topic is asked for before a batch is begun.
    BeginAskTopic "begin-ask-topic" By::Landing("checkpoint"),
        "it is known that the topic was not made anew",
        "no broker answers" => Again "asked until one does", ;
    /// A batch becomes pending.
    BeginSwap "begin-swap" By::Landing("checkpoint"),
        "range and keys are pending",
        "no answer" => Again "the same bytes are put again under the same condition; 412 is ours if they read back", put;
    /// The bytes for a key are at hand, or made again.
    PrepareObject "prepare-object" By::Landing("uploader"),
        "the object's bytes are there",
        "the encoder fails" => Restart "the batch is pending: it is read again, exactly", watched;
    /// The first data object of a batch is created.
    CreateData "create-data" By::Landing("uploader"),
        "the first data object exists",
        "no answer" => Again "created again; 412 is ours if it reads back equal", put;
    /// Any further data object is created.
    CreateLaterData "create-later-data" By::Landing("uploader"),
        "one more data object exists",
        "no answer" => Again "created again; 412 is ours if it reads back equal", put;
    /// The dead letters of a batch are created.
    CreateDeadLetters "create-dead-letters" By::Landing("uploader"),
        "the dead letters exist",
        "no answer" => Again "created again; 412 is ours if it reads back equal", put;
    /// An object that exists is read.
    LookAtObject "look-at-object" By::Landing("uploader"),
        "it is known what the object holds",
        "no answer" => Again "read until it is answered", ;
    /// Footer and offsets of an object that exists are read.
    ReadBack "read-back" By::Landing("uploader"),
        "it is known what the object holds",
        "it is no Parquet file" => Stop "foreign: the batch is pending, and looked at again at the next claim", ;
    /// What cannot be finished goes from the uploader to the checkpoint actor.
    HandUpset "hand-upset" By::Landing("uploader"),
        "the partition is stopped, or read again",
        "the checkpoint actor is gone" => Restart "the batch is pending: it is read again, and found out again", ;
    /// The cause is swapped into the checkpoint of a partition that stops.
    StoppedSwap "stopped-swap" By::Landing("checkpoint"),
        "the checkpoint says why it stopped",
        "no answer" => Again "the same bytes are put again under the same condition; 412 is ours if they read back", put;
    /// The proof goes from the uploader to the checkpoint actor.
    HandLanded "hand-landed" By::Landing("uploader"),
        "the batch has landed",
        "the checkpoint actor is gone" => Restart "the batch is pending and found complete, or has landed", ;
    /// A batch lands.
    LandedSwap "landed-swap" By::Landing("checkpoint"),
        "the checkpoint is behind the batch",
        "no answer" => Again "the same bytes are put again under the same condition; 412 is ours if they read back", put;
    /// A batch lands, and the one behind it becomes pending.
    LandedAndBeginSwap "landed-and-begin-swap" By::Landing("checkpoint"),
        "the checkpoint is behind the batch, and the next is pending",
        "no answer" => Again "the same bytes are put again under the same condition; 412 is ours if they read back", put;
    /// Holes go to the checkpoint actor.
    HandHoles "hand-holes" By::Landing("accumulator"),
        "the holes are in the checkpoint",
        "the checkpoint actor is gone" => Restart "the holes are read again", ;
    /// Holes at the end are noted.
    HolesSwap "holes-swap" By::Landing("checkpoint"),
        "the checkpoint says how far there is nothing",
        "no answer" => Again "the same bytes are put again under the same condition; 412 is ours if they read back", put;
    /// A commit, or a claim that is to be made again, goes to the thread.
    HandCommand "hand-command" By::Landing("checkpoint"),
        "the thread knows what to commit, or to claim again",
        "the thread is gone" => Restart "the checkpoint has it all: the next generation claims", watched;

    // The end.
    /// Partitions that were taken away are told to the checkpoint actor.
    HandRelease "hand-release" By::Landing("subscriber"),
        "their claims have ended",
        "the checkpoint actor is gone" => Restart "the thread ended the claims before", ;
    /// The end of a claim goes from the uploader to the checkpoint actor.
    HandClosed "hand-closed" By::Landing("uploader"),
        "the claim has ended, and the next may begin",
        "the checkpoint actor is gone" => Restart "all of it has landed", ;
    /// The drain goes to the consumer's thread.
    TellDrain "tell-drain" By::Group("landing"),
        "the thread takes nothing more, and closes what is open",
        "the thread is gone" => Left "what was not landed is read again at the next start", ;
    /// The drain goes down the stages.
    HandDrain "hand-drain" By::Landing("subscriber"),
        "all that was read has landed",
        "the stage behind is gone" => Left "what was not landed is read again at the next start", ;
    /// The thread is told to leave the group.
    TellLeave "tell-leave" By::Group("landing"),
        "the thread ends",
        "the thread is gone" => GoOn "it is waited for", ;
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    const HEAD: &str = "\
# Fault points

Every step from poll to commit, what it leaves behind, and what a fault at it comes to, before and \
after its effect. `tests/fault_points.rs` goes through this table: a panic, the step's error, a \
short delay, one longer than `supervision.heartbeat` and an abort of the process at each, and after \
each every record is landed once. In a debug build `GROUNDTRACK_FAULTS=STEP:SIDE=KIND@PASS` makes \
any of it happen (`decode:before=panic@3`, `claim-swap:after=error`, `take:after=abort`, \
`seek:before=delay-2000`, `absorb:before=hang`); a release build has nothing of it.

- A *panic* ends the generation of the group, whose next one goes on from the checkpoint; in \
`leave` it ends the thread, which was leaving; during a drain it ends the drain, and the next start \
lands what is left.
- An *error* before the effect keeps it from happening; behind the effect its answer is lost. A put \
is also answered by 409 before the effect, and by 412 behind it.
- A *delay* longer than the heartbeat ends the generation where the last column says *hang*; else \
it is a wait that the actor has named, and nothing is done about it. A shorter one changes nothing.
- An *abort* ends the process; who started it starts it again, and it goes on from the checkpoint.

| step | by | effect | error | what is done | long delay |
|---|---|---|---|---|---|
";

    fn table() -> String {
        let mut table = HEAD.to_owned();
        for step in Step::ALL {
            let row = step.row();
            let by = match row.by {
                By::Ingest(actor) | By::Landing(actor) => actor.to_owned(),
                By::Consumer | By::Leaver => "consumer's thread".to_owned(),
                By::Group(group) => format!("group {group}"),
            };
            let then = match row.then {
                Then::Again => "again",
                Then::Restart => "restart",
                Then::Left => "left to the next start",
                Then::Stop => "the partition stops",
                Then::GoOn => "goes on",
            };
            let long = if row.is_watched { "hang" } else { "wait" };
            let _ = writeln!(
                table,
                "| `{}` | {by} | {} | {} | {then}: {} | {long} |",
                row.name, row.effect, row.error, row.ends
            );
        }
        table
    }

    /// With `GROUNDTRACK_WRITE_DOCS` it is written anew.
    #[test]
    fn the_table_in_the_documents_is_the_one_in_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fault-points.md");
        if std::env::var_os("GROUNDTRACK_WRITE_DOCS").is_some() {
            std::fs::write(path, table()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert!(
            written == table(),
            "docs/fault-points.md is out of date: run this test with GROUNDTRACK_WRITE_DOCS=1"
        );
    }
}

//! Variants of the protocol that are wrong, and that the model finds them.

use groundtrack::landing::protocol::checkpoint::Checkpoint;

/// What is done wrong, in the model's own driver or by changing what the protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seed {
    /// Objects are uploaded before their range is pending.
    BeginAfterUpload,
    /// A swap that was fenced is tried again with the ETag that is there now.
    FresherETag,
    /// Objects replace what is there.
    Overwrite,
    /// The dead letters are created before the data.
    DeadLettersFirst,
    /// The data keys' puts are sent at once.
    DataKeysInParallel,
    /// A claim leaves the epoch as it is, and a write the revision.
    VersionsComeBack,
    /// A write leaves the revision as it is; the claim still raises the epoch.
    NoRevision,
    /// A claim lists before it reads.
    ListBeforeRead,
    /// An object that exists counts as the batch's, whatever its footer says.
    FoundBelieved,
    /// A replay is laid out by today's configuration.
    ReplayByTodaysLayout,
    /// A checkpoint that is made anew begins with the first epoch again.
    EpochStartsAgain,
    /// A claim leaves the epoch as it is.
    EpochNotRaised,
    /// The accumulator takes a block of an older claim.
    StaleBlockTaken,
    /// A key gets all that is planned for it.
    NotMinusWhatIsHeld,
    /// A batch counts as landed behind its first object.
    LandedWithoutProof,
    /// A replay counts as landed without a look.
    PendingTakenAsLanded,
    /// A Begin without an answer is taken as lost: the batch is cut anew.
    UnknownTakenAsLost,
    /// A gap is passed as if the operator had given his word.
    GapWithoutTheWord,
    /// Records that no listed key takes are left out.
    UnplacedDropped,
    /// A range that was read again is uploaded without asking whether the topic is still the same.
    ReplayNotConfirmed,
    /// Holes are noted although a batch is on its way, and not again when it has landed.
    HolesNotedAnyTime,
}

/// The content that is written.
pub fn version_of(checkpoint: &Checkpoint, seed: Option<Seed>) -> Checkpoint {
    match seed {
        Some(Seed::VersionsComeBack) => Checkpoint {
            revision: 0,
            epoch: 0,
            writer: String::new(),
            ..checkpoint.clone()
        },
        Some(Seed::NoRevision) => Checkpoint {
            revision: 0,
            ..checkpoint.clone()
        },
        _ => checkpoint.clone(),
    }
}

mod found {
    use super::Seed;
    use crate::configurations::{self, explore};
    use crate::model::Protocol;

    const TWICE: &str = "no offset is in two objects";
    const THERE: &str = "all that has landed is there";
    const TILE: &str = "batches tile what has landed";
    const PROVE: &str = "objects prove their batch";
    const WORD: &str = "no loss without the word";
    const OURS: &str = "rows are of our log";
    const VERSION: &str = "no version comes back";
    const GO_ON: &str = "it can go on";

    /// The model finds it, and says by which steps.
    fn finds(model: Protocol, seed: Seed, property: &'static str) {
        let found = explore(model.seeded(seed), Some(property));
        let found = found.unwrap_or_else(|| panic!("{seed:?} is not found"));
        assert!(!found.steps.is_empty());
        println!(
            "{seed:?}: not \"{property}\" after {} steps",
            found.steps.len()
        );
        for step in &found.steps {
            println!("    {step}");
        }
    }

    macro_rules! tests {
        ($($name:ident: $seed:ident breaks $property:ident in $model:ident;)*) => {
            $(
                #[test]
                fn $name() {
                    finds(configurations::$model(), Seed::$seed, $property);
                }
            )*
        };
    }

    tests! {
        begin_after_upload: BeginAfterUpload breaks TILE in two_writers;
        a_swap_tried_again_with_a_fresher_etag: FresherETag breaks TILE in two_writers;
        objects_that_are_overwritten: Overwrite breaks TWICE in two_opinions;
        dead_letters_first: DeadLettersFirst breaks TWICE in two_opinions;
        data_keys_in_parallel: DataKeysInParallel breaks TWICE in two_opinions;
        versions_that_come_back: VersionsComeBack breaks VERSION in versions;
        a_listing_before_the_read: ListBeforeRead breaks TWICE in outsiders;
        a_found_object_believed_without_its_footer: FoundBelieved breaks THERE in outsiders;
        a_replay_by_todays_layout: ReplayByTodaysLayout breaks PROVE in changed_layout;
        a_claim_that_leaves_the_epoch: EpochNotRaised breaks THERE in given_back;
        an_epoch_that_starts_again: EpochStartsAgain breaks TWICE in outsiders;
        a_stale_block_taken: StaleBlockTaken breaks THERE in given_back;
        a_key_not_minus_what_is_held: NotMinusWhatIsHeld breaks TWICE in two_opinions;
        landed_without_the_proof_of_all_objects: LandedWithoutProof breaks THERE in two_opinions;
        a_replay_taken_as_landed: PendingTakenAsLanded breaks THERE in two_writers;
        an_unknown_answer_taken_as_lost: UnknownTakenAsLost breaks TILE in two_writers;
        a_gap_passed_without_the_word: GapWithoutTheWord breaks WORD in retention;
        records_without_a_place_left_out: UnplacedDropped breaks THERE in two_opinions;
        a_replay_from_a_topic_made_anew: ReplayNotConfirmed breaks OURS in renewal;
        holes_noted_while_a_batch_is_on_its_way: HolesNotedAnyTime breaks GO_ON in holes;
    }

    /// Beside an epoch that every claim raises and a writer's name that no other has, content
    /// does not come back even without a revision: it is the second of two locks.
    #[test]
    fn without_a_revision_no_version_comes_back_while_claims_raise_the_epoch() {
        let model = configurations::versions().seeded(Seed::NoRevision);
        assert!(explore(model, None).is_none());
    }
}

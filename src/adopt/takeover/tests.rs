use super::*;
use crate::config::PartitionTime;

fn names() -> Names {
    Names {
        data: "data".into(),
        dead_letters: "dead".into(),
        checkpoints: "checkpoints".into(),
        group: "g".into(),
        topic: "iss".into(),
    }
}

fn layout() -> Layout {
    Layout {
        columns: Vec::new(),
        extra: true,
        partition_by: Vec::new(),
        partition_time: PartitionTime::KafkaTimestamp,
    }
}

/// A job that has read two partitions, and a topic of three that holds [0, 100) of each.
struct Scene {
    job: Job,
    partitions: i32,
    logs: BTreeMap<i32, (i64, i64)>,
    existing: Existing,
    objects: BTreeMap<i32, String>,
    folder_with_sink_log: Option<&'static str>,
    skips: Vec<(i32, i64)>,
}

fn scene() -> Scene {
    Scene {
        job: Job {
            id: "a-job".into(),
            landed: Some(57),
            is_committed: true,
            unlanded: None,
            positions: [(0, 61), (1, 60)].into_iter().collect(),
            other_topics: Vec::new(),
            unlisted_count: 0,
            unlisted: Vec::new(),
            missing: 0,
            log_gaps: Vec::new(),
            interval: None,
            seen: BTreeMap::new(),
        },
        partitions: 3,
        logs: (0..3).map(|partition| (partition, (0, 100))).collect(),
        existing: Existing::new(),
        objects: BTreeMap::new(),
        folder_with_sink_log: None,
        skips: Vec::new(),
    }
}

impl Scene {
    fn plan(&self) -> Plan {
        let topic = TopicView {
            cluster_id: "c".into(),
            topic_id: "t".into(),
            partitions: self.partitions,
        };
        let evidence = Evidence {
            job: &self.job,
            topic: &topic,
            logs: &self.logs,
            existing: &self.existing,
            objects: &self.objects,
            folder_with_sink_log: self.folder_with_sink_log,
        };
        let terms = Terms {
            names: &names(),
            layout: &layout(),
            skips: &self.skips,
            writer: "adopt-1",
        };
        plan(&evidence, &terms, &Now::at(1_000))
    }

    fn refusal(&self) -> String {
        let plan = self.plan();
        assert_eq!(plan.make, [], "nothing is made where anything is refused");
        plan.refusals.join("\n")
    }

    /// Adopts these partitions, as a run that was cut off then.
    fn adopted(mut self, partitions: &[i32]) -> Self {
        let made = self.plan().make;
        let kept = made
            .into_iter()
            .filter(|(partition, _)| partitions.contains(partition));
        self.existing = kept
            .map(|(partition, made)| (partition, Ok(made)))
            .collect();
        self
    }

    fn existing_mut(&mut self, partition: i32) -> &mut Checkpoint {
        self.existing.get_mut(&partition).unwrap().as_mut().unwrap()
    }
}

#[test]
fn each_partition_begins_where_the_last_landed_batch_ends() {
    let plan = scene().plan();
    assert_eq!(plan.refusals, [""; 0]);
    let fates: Vec<_> = plan
        .rows
        .iter()
        .map(|row| (row.partition, row.offset, row.fate))
        .collect();
    let expected = [
        (0, Some(61), Fate::Made),
        (1, Some(60), Fate::Made),
        // It was added behind the job's back: left to the claim, which starts at the earliest.
        (2, None, Fate::New),
    ];
    assert_eq!(fates, expected);
    let made = Checkpoint {
        format: FORMAT,
        revision: 1,
        epoch: 0,
        writer: "adopt-1".into(),
        time: Now::at(1_000).text,
        cluster_id: "c".into(),
        topic_id: "t".into(),
        first_offset: 60,
        next_offset: 60,
        holes_to: 60,
        last: None,
        pending: None,
        partitions: 2,
        started_ms: 1_000,
        adopted: Some(Adopted {
            job: "a-job".into(),
            batch: Some(57),
        }),
        columns: column_records(&layout()),
        roots: vec![Root {
            from_offset: 60,
            data: "data".into(),
            dead_letters: "dead".into(),
            columns: Vec::new(),
        }],
        stopped: None,
    };
    assert_eq!(plan.make.len(), 2);
    assert_eq!(plan.make[1], (1, made));
}

#[test]
fn a_partition_between_those_of_the_job_begins_at_its_logs_start() {
    let mut scene = scene();
    scene.job.positions = [(0, 61), (2, 60)].into_iter().collect();
    scene.logs.insert(1, (7, 100));
    let plan = scene.plan();
    assert_eq!(plan.rows[1].fate, Fate::Unread);
    assert_eq!(plan.make[1].1.first_offset, 7);
    assert_eq!(plan.make[1].1.partitions, 3);
}

#[test]
fn what_retention_took_is_refused_with_how_to_go_on() {
    let mut scene = scene();
    scene.logs.insert(1, (75, 100));
    let why = scene.refusal();
    assert!(why.contains("offsets 60 to 74 are lost"), "{why}");
    assert!(
        why.contains("[[skip]] topic = \"iss\" partition = 1 first_offset = 60"),
        "{why}"
    );
    // The word for another offset, or partition, is none.
    scene.skips = vec![(1, 61), (0, 60)];
    assert!(scene.refusal().contains("lost"));
    scene.skips = vec![(1, 60)];
    let plan = scene.plan();
    // The loss stays between the checkpoint and the log: the first run records it.
    assert_eq!((plan.refusals.len(), plan.make[1].1.next_offset), (0, 60));
}

#[test]
fn another_log_is_refused() {
    let mut ended = scene();
    ended.logs.insert(0, (0, 60));
    let why = ended.refusal();
    assert!(
        why.contains("61") && why.contains("new kafka.group"),
        "{why}"
    );
    let mut at_end = scene();
    at_end.logs.insert(0, (61, 61));
    assert_eq!(at_end.plan().make.len(), 2);

    let mut fewer = scene();
    fewer.partitions = 1;
    fewer.logs = [(0, (0, 100))].into_iter().collect();
    assert!(fewer.refusal().contains("has 1 partitions"));
    let mut none = scene();
    none.job.positions.insert(0, -1);
    assert!(none.refusal().contains("offset -1"));
}

#[test]
fn a_folder_that_spark_reads_by_a_log_is_refused() {
    for (folder, key) in [("data", "store.data"), ("dead", "store.dead_letters")] {
        let mut scene = scene();
        scene.folder_with_sink_log = Some(folder);
        let why = scene.refusal();
        assert!(why.contains(key) && why.contains("another folder"), "{why}");
    }
}

#[test]
fn objects_without_a_checkpoint_are_refused() {
    let mut scene = scene();
    scene.objects.insert(1, "data/iss-1".into());
    let why = scene.refusal();
    assert!(
        why.contains("data/iss-1") && why.contains("--from-files"),
        "{why}"
    );
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let mut scene = scene();
    scene.logs.insert(0, (70, 100));
    scene.logs.insert(1, (0, 10));
    scene.folder_with_sink_log = Some("data");
    assert_eq!(scene.plan().refusals.len(), 3);
}

#[test]
fn an_interrupted_takeover_is_completed() {
    for there in [&[0][..], &[1]] {
        let interrupted = scene().adopted(there);
        let plan = interrupted.plan();
        assert_eq!(plan.refusals, [""; 0], "{there:?}");
        assert_eq!(plan.make.len(), 1);
        let (partition, made) = &plan.make[0];
        assert!(!there.contains(partition));
        assert_eq!(made.started_ms, 1_000);
    }
    // Also where the service has landed from the half that was there.
    let mut scene = scene().adopted(&[0]);
    let landed = scene.existing_mut(0);
    (landed.epoch, landed.next_offset) = (3, 90);
    scene.objects.insert(0, "data/iss-0".into());
    assert_eq!(scene.plan().make.len(), 1);
}

#[test]
fn a_takeover_is_repeated_until_the_service_has_taken_it_up() {
    let mut scene = scene().adopted(&[0, 1]);
    let plan = scene.plan();
    assert_eq!((plan.make.len(), plan.refusals.len()), (0, 0));
    scene.existing_mut(0).epoch = 1;
    let why = scene.refusal();
    assert!(why.contains("every partition already"), "{why}");
}

#[test]
fn a_job_that_went_on_after_its_takeover_is_refused() {
    let mut scene = scene().adopted(&[0]);
    scene.job.landed = Some(58);
    let why = scene.refusal();
    assert!(
        why.contains("batch 57") && why.contains("batch 58"),
        "{why}"
    );
    scene.job.landed = Some(57);
    scene.job.id = "another-job".into();
    assert!(scene.refusal().contains("another-job"));
}

#[test]
fn a_group_with_checkpoints_of_its_own_is_refused() {
    let mut own = scene().adopted(&[0, 1]);
    for partition in [0, 1] {
        let found = own.existing_mut(partition);
        (found.adopted, found.first_offset) = (None, 0);
    }
    let why = own.refusal();
    assert!(
        why.contains("exists already") && why.contains("new kafka.group"),
        "{why}"
    );

    // Of a partition that the job does not know.
    let mut newer = scene().adopted(&[0]);
    let mut found = newer.existing.remove(&0).unwrap().unwrap();
    found.adopted = None;
    newer.existing.insert(2, Ok(found));
    assert!(newer.refusal().contains("exists already"));

    let mut unreadable = scene();
    unreadable
        .existing
        .insert(0, Err("x.json has format 9".into()));
    assert!(unreadable.refusal().contains("format 9"));
}

#[test]
fn checkpoints_that_were_rebuilt_are_completed_where_they_fit() {
    let mut scene = scene().adopted(&[0]);
    let rebuilt = scene.existing_mut(0);
    (rebuilt.adopted, rebuilt.started_ms) = (None, 0);
    let plan = scene.plan();
    assert_eq!(plan.refusals, [""; 0]);
    assert_eq!(plan.make[0].1.first_offset, 60);
    scene.existing_mut(0).first_offset = 62;
    assert!(scene.refusal().contains("begins at offset 62"));
}

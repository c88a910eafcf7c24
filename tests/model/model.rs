//! Who may do what next.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use groundtrack::config::{PartitionTime, PartitionUnit};
use groundtrack::landing::layout::Layout;
use groundtrack::landing::offsets::OffsetSet;
use groundtrack::landing::protocol::keys::Names;
use stateright::{Model, Property};

use crate::invariants;
use crate::seeded::Seed;
use crate::world::{File, Log, Put, Store};
use crate::writer::{Around, Fate, Setup, Writer};

/// Faults and choices that are left. Each is spent where it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    /// Claims, also those that follow a fence: a duel has no end otherwise.
    pub claims: u8,
    pub crashes: u8,
    /// Answers that are lost, or puts that come late.
    pub lost: u8,
    pub rebalances: u8,
    pub retentions: u8,
    pub words: u8,
    /// The topic deleted and made anew.
    pub renewals: u8,
    /// The checkpoint deleted by somebody.
    pub deletions: u8,
    /// An object of somebody else's at the key of the range that is pending.
    pub strangers: u8,
}

/// One configuration of the model.
#[derive(Debug)]
pub struct Protocol {
    pub name: &'static str,
    pub setups: Vec<Setup>,
    pub log: Log,
    pub budget: Budget,
    pub seed: Option<Seed>,
    /// Longest batch: how many offsets a block may span.
    pub span_max: i64,
    /// Whether versions are remembered, to see whether one comes back.
    pub versions: bool,
    /// States from which going on was followed to its end.
    pub can_go_on: Mutex<HashMap<u64, bool>>,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub store: Shared<Store>,
    pub log: Arc<Log>,
    pub writers: Vec<Shared<Writer>>,
    /// Who has the partition, in each group: Kafka's view.
    pub owner: Vec<usize>,
    pub late: Vec<Arc<Put>>,
    pub skips: Vec<i64>,
    pub budget: Budget,
    pub versions: Vec<String>,
    pub past: Past,
}

/// What the world did, which explains what the writers then say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Past {
    /// Records of the first log that retention has removed lie below.
    pub removed_to: i64,
    pub renewed: bool,
    pub deleted: bool,
    pub stranger: bool,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The claim begins, by reading the checkpoint.
    Claim(usize),
    /// The checkpoint actor's request.
    Desk(usize, Fate),
    /// The uploader's request.
    Object(usize, Fate),
    /// The consumer reads up to here.
    Read(usize, i64),
    /// The accumulator takes the block.
    Absorb(usize),
    /// The process dies, with its request sent or not.
    Crash { writer: usize, sends: bool },
    /// Kafka gives the partition to this writer, who hears of it at once.
    Rebalance(usize),
    /// The consumer closes what it has read, as for a partition that is to be given back, and the
    /// partition is claimed again when that has landed.
    Close(usize),
    /// A writer hears that it has lost the partition.
    Revoked(usize),
    /// A put that was given up takes effect.
    Late(usize),
    /// Retention removes what lies below.
    Retention(i64),
    /// The operator gives his word for what the checkpoint's cause names.
    Word,
    /// The topic is deleted and made anew, with other records at the same offsets.
    Renewal,
    /// Somebody deletes the checkpoint.
    Deletion,
    /// Somebody puts an object where the pending range's first will be.
    Stranger,
}

impl Protocol {
    /// Two writers of one group that have the same opinions, and a log of `high` records.
    pub fn new(name: &'static str, writers: usize, high: i64, budget: Budget) -> Self {
        Self {
            name,
            setups: vec![setup(); writers],
            log: Log {
                generation: 1,
                low: 0,
                high,
                holes: OffsetSet::default(),
            },
            budget,
            seed: None,
            span_max: high,
            versions: false,
            can_go_on: Mutex::default(),
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn seeded(self, seed: Seed) -> Self {
        self.with(|model| model.seed = Some(seed))
    }

    /// The number of a writer's group.
    pub fn group(&self, writer: usize) -> usize {
        let group = |writer: usize| &self.setups[writer].names.group;
        (0..writer)
            .find(|other| group(*other) == group(writer))
            .unwrap_or(writer)
    }

    pub fn act(&self, state: &mut State, step: Step) {
        match step {
            Step::Claim(index) => {
                state.budget.claims = state.budget.claims.saturating_sub(1);
                self.writer(state, index, |writer, around| writer.claim(around));
            }
            Step::Desk(index, fate) => {
                self.spend(state, fate);
                self.writer(state, index, |writer, around| {
                    writer.desk_step(fate, around)
                });
            }
            Step::Object(index, fate) => {
                self.spend(state, fate);
                self.writer(state, index, |writer, around| {
                    writer.object_step(fate, around)
                });
            }
            Step::Read(index, to) => {
                self.writer(state, index, |writer, around| writer.read(to, around));
            }
            Step::Absorb(index) => {
                self.writer(state, index, |writer, around| writer.absorb(around));
            }
            Step::Crash { writer, sends } => {
                state.budget.crashes = state.budget.crashes.saturating_sub(1);
                self.writer(state, writer, |writer, around| writer.crash(sends, around));
                if state.owner[self.group(writer)] == writer {
                    self.writer(state, writer, |writer, _| writer.assign());
                }
            }
            Step::Rebalance(index) => {
                state.budget.rebalances = state.budget.rebalances.saturating_sub(1);
                state.owner[self.group(index)] = index;
                self.writer(state, index, |writer, _| {
                    if writer.is_assigned {
                        writer.release();
                    }
                    writer.assign();
                });
            }
            Step::Close(index) => {
                state.budget.rebalances = state.budget.rebalances.saturating_sub(1);
                self.writer(state, index, |writer, around| writer.close(around));
            }
            Step::Revoked(index) => {
                self.writer(state, index, |writer, _| writer.release());
            }
            Step::Late(index) => {
                let put = state.late.remove(index);
                let _ = state.store.change(|store| store.put(&put));
            }
            Step::Retention(low) => {
                state.budget.retentions = state.budget.retentions.saturating_sub(1);
                Arc::make_mut(&mut state.log).low = low;
                if !state.past.renewed {
                    state.past.removed_to = low;
                }
            }
            Step::Word => {
                state.budget.words = state.budget.words.saturating_sub(1);
                let next = self.next_offset(state);
                state.skips.push(next);
                for index in 0..state.writers.len() {
                    if state.writers[index].stopped.is_some() {
                        self.writer(state, index, |writer, _| writer.assign());
                    }
                }
            }
            Step::Renewal => {
                state.budget.renewals = state.budget.renewals.saturating_sub(1);
                let log = Arc::make_mut(&mut state.log);
                log.generation += 1;
                log.low = 0;
                state.past.renewed = true;
            }
            Step::Deletion => {
                state.budget.deletions = state.budget.deletions.saturating_sub(1);
                let key = self.setups[0].checkpoint_key();
                state.store.change(|store| store.checkpoints.remove(&key));
                state.past.deleted = true;
            }
            Step::Stranger => {
                state.budget.strangers = state.budget.strangers.saturating_sub(1);
                state.past.stranger = true;
                if let Some((key, file)) = self.strangers_file(state) {
                    let file = Arc::new(file);
                    state.store.change(|store| store.files.insert(key, file));
                }
            }
        }
        // What can never take effect any more makes no difference.
        if !self.versions && self.budget.deletions == 0 {
            let store = state.store.clone();
            state.late.retain(|put| !store.is_idle(put));
        }
        state.late.sort_by_cached_key(hash_of);
    }

    fn spend(&self, state: &mut State, fate: Fate) {
        if fate != Fate::Answered {
            state.budget.lost = state.budget.lost.saturating_sub(1);
        }
    }

    fn writer(
        &self,
        state: &mut State,
        index: usize,
        act: impl FnOnce(&mut Writer, &mut Around<'_>),
    ) {
        let mut around = Around {
            setup: &self.setups[index],
            seed: self.seed,
            store: &mut state.store,
            log: &state.log,
            late: &mut state.late,
            skips: &state.skips,
            versions: self.versions.then_some(&mut state.versions),
            index,
        };
        state.writers[index].change(|writer| act(writer, &mut around));
    }

    fn next_offset(&self, state: &State) -> i64 {
        let key = self.setups[0].checkpoint_key();
        let stored = state.store.checkpoints.get(&key);
        stored.map_or(0, |stored| stored.checkpoint.next_offset)
    }

    fn strangers_file(&self, state: &State) -> Option<(String, File)> {
        let stored = state
            .store
            .checkpoints
            .get(&self.setups[0].checkpoint_key())?;
        let pending = stored.checkpoint.pending.as_ref()?;
        let key = pending.keys.first()?.clone();
        let (start, end) = (stored.checkpoint.next_offset, pending.end);
        let file = invariants::strangers_file(start, end, pending);
        (!state.store.files.contains_key(&key)).then_some((key, file))
    }

    /// The steps of a writer that are no fault.
    pub fn own_steps(&self, state: &State, index: usize, steps: &mut Vec<Step>) {
        let writer = &state.writers[index];
        if writer.can_claim() {
            steps.push(Step::Claim(index));
        }
        if writer.desk.is_some() {
            steps.push(Step::Desk(index, Fate::Answered));
        }
        if writer.object_puts().is_some() {
            steps.push(Step::Object(index, Fate::Answered));
        }
        if writer.can_absorb(self.seed) {
            steps.push(Step::Absorb(index));
        }
        let next = writer.reading.as_ref().map_or(0, |reading| reading.next);
        for end in writer.read_ends(&state.log, &self.setups[index]) {
            let is_replay = writer
                .reading
                .as_ref()
                .is_some_and(|reading| reading.end.is_some());
            if is_replay || end - next <= self.span_max {
                steps.push(Step::Read(index, end));
            }
        }
    }

    fn faults(&self, state: &State, steps: &mut Vec<Step>) {
        let budget = &state.budget;
        for (index, writer) in state.writers.iter().enumerate() {
            let puts_object = writer.object_puts() == Some(true);
            if budget.lost > 0 {
                for fate in [Fate::AnswerLost, Fate::Late] {
                    if writer.desk_puts() {
                        steps.push(Step::Desk(index, fate));
                    }
                    if puts_object {
                        steps.push(Step::Object(index, fate));
                    }
                }
            }
            if budget.crashes > 0 && (!writer.is_idle() || writer.reading.is_some()) {
                steps.push(Step::Crash {
                    writer: index,
                    sends: false,
                });
                if writer.desk_puts() || puts_object {
                    steps.push(Step::Crash {
                        writer: index,
                        sends: true,
                    });
                }
            }
            let owner = state.owner[self.group(index)];
            if budget.rebalances > 0 && (owner != index || writer.is_assigned) {
                steps.push(Step::Rebalance(index));
            }
            if budget.rebalances > 0 && writer.can_close() {
                steps.push(Step::Close(index));
            }
            if writer.is_assigned && owner != index {
                steps.push(Step::Revoked(index));
            }
        }
        steps.extend((0..state.late.len()).map(Step::Late));
        if budget.retentions > 0 {
            steps.extend((state.log.low + 1..=state.log.high).map(Step::Retention));
        }
        let stopped = state
            .writers
            .iter()
            .filter_map(|writer| writer.stopped.as_ref());
        if budget.words > 0 && stopped.clone().any(|cause| cause.starts_with("gap")) {
            steps.push(Step::Word);
        }
        if budget.renewals > 0 && !state.past.renewed {
            steps.push(Step::Renewal);
        }
        let key = self.setups[0].checkpoint_key();
        let exists = state.store.checkpoints.contains_key(&key);
        if budget.deletions > 0 && exists && self.can_be_deleted(state) {
            steps.push(Step::Deletion);
        }
        if budget.strangers > 0 && self.strangers_file(state).is_some() {
            steps.push(Step::Stranger);
        }
    }

    /// Whether a checkpoint can be deleted here. Only the checkpoint tells of a batch before its
    /// first object, and of a claim that found none or a pending range: one that is deleted while
    /// such a thing is under way cannot be told from none, and its records land again.
    fn can_be_deleted(&self, state: &State) -> bool {
        let creates = |put: &Arc<Put>| match &**put {
            Put::Checkpoint { condition, .. } => {
                *condition == groundtrack::store::Condition::Absent
            }
            Put::File { .. } => true,
        };
        let is_quiet = |writer: &Shared<Writer>| {
            let has_batch = writer.travelling.is_some() || !writer.queue.is_empty();
            !has_batch && !writer.is_claiming() && !writer.is_replaying()
        };
        !state.late.iter().any(creates) && state.writers.iter().all(is_quiet)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut writers = vec![Writer::default(); self.setups.len()];
        let owner: Vec<usize> = (0..writers.len()).map(|index| self.group(index)).collect();
        for (index, writer) in writers.iter_mut().enumerate() {
            if owner[index] == index {
                writer.assign();
            }
        }
        vec![State {
            store: Shared::default(),
            log: Arc::new(self.log.clone()),
            writers: writers.into_iter().map(Shared::new).collect(),
            owner,
            late: Vec::new(),
            skips: Vec::new(),
            budget: self.budget,
            versions: Vec::new(),
            past: Past::default(),
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for index in 0..state.writers.len() {
            self.own_steps(state, index, steps);
        }
        if state.budget.claims == 0 {
            steps.retain(|step| !matches!(step, Step::Claim(_)));
        }
        self.faults(state, steps);
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        self.act(&mut state, step);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::properties()
    }
}

/// A part of the state with its hash, which is made once for all states that share it.
#[derive(Debug, Clone)]
pub struct Shared<T> {
    value: Arc<T>,
    hash: u64,
}

impl<T: Hash> Shared<T> {
    pub fn new(value: T) -> Self {
        let hash = hash_of(&value);
        Self {
            value: Arc::new(value),
            hash,
        }
    }
}

impl<T: Hash + Clone> Shared<T> {
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let changed = change(Arc::make_mut(&mut self.value));
        self.hash = hash_of(&*self.value);
        changed
    }
}

impl<T: Hash + Default> Default for Shared<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.value == other.value
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

pub fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

pub fn layout(folders: bool) -> Arc<Layout> {
    Arc::new(Layout {
        columns: Vec::new(),
        extra: true,
        partition_by: if folders {
            vec![PartitionUnit::Date]
        } else {
            Vec::new()
        },
        partition_time: PartitionTime::KafkaTimestamp,
    })
}

pub fn setup() -> Setup {
    Setup {
        names: Names {
            data: "data".into(),
            dead_letters: "dead".into(),
            checkpoints: "checkpoints".into(),
            group: "g".into(),
            topic: crate::writer::TOPIC.into(),
        },
        layout: layout(false),
        decoder: 1,
        rejects: OffsetSet::default(),
        second: OffsetSet::default(),
        blocks_max: 1,
    }
}

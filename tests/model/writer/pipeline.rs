//! The consumer and the accumulator: blocks become batches.

use super::*;

impl Writer {
    /// Whether the pipeline has room for another block.
    fn has_room(&self, setup: &Setup) -> bool {
        self.blocks.len() < setup.blocks_max && self.queue.is_empty()
    }

    /// Up to where the consumer may read: it stops anywhere, holes included, but a replay only at
    /// its end.
    pub fn read_ends(&self, log: &Log, setup: &Setup) -> Vec<i64> {
        let Some(reading) = self.reading.as_ref().filter(|_| self.has_room(setup)) else {
            return Vec::new();
        };
        match reading.end {
            _ if is_out_of_range(reading, log) => vec![reading.next],
            Some(end) if log.high >= end || reading.next >= end => vec![end],
            Some(_) => Vec::new(),
            None => (reading.next + 1..=log.high).collect(),
        }
    }

    /// The consumer reads up to here and hands on a block.
    pub fn read(&mut self, to: i64, around: &mut Around<'_>) {
        let Some(reading) = self.reading.clone() else {
            return;
        };
        let mut block = Block {
            epoch: reading.epoch,
            position: to,
            records: OffsetSet::default(),
            log: around.log.generation,
            ends: true,
            forced: self.forced.clone(),
        };
        if is_out_of_range(&reading, around.log) && reading.end != Some(reading.next) {
            // What was read before lands first; a replay is given up instead.
            self.reading = None;
            self.claim_due = true;
            match reading.end {
                Some(_) => self.end_claim(reading.epoch),
                None => self.blocks.push_back(block),
            }
            return;
        }
        block.records = around.log.records(reading.next, to);
        block.ends = reading.end.is_some();
        self.blocks.push_back(block);
        self.reading = (reading.end.is_none()).then_some(Reading {
            next: to,
            ..reading
        });
    }

    /// Whether the consumer can close what it reads. A replay is not closed before its end.
    pub fn can_close(&self) -> bool {
        let is_fresh = |reading: &Reading| reading.end.is_none();
        self.blocks.is_empty() && self.reading.as_ref().is_some_and(is_fresh)
    }

    pub fn close(&mut self, around: &Around<'_>) {
        if let Some(reading) = self.reading.take() {
            self.claim_due = true;
            self.blocks.push_back(Block {
                epoch: reading.epoch,
                position: reading.next,
                records: OffsetSet::default(),
                log: around.log.generation,
                ends: true,
                forced: OffsetSet::default(),
            });
        }
    }

    /// Whether the accumulator can do something with the next block. Holes alone are noted when
    /// no batch is on its way: a checkpoint with a pending range notes none.
    pub fn can_absorb(&self, seed: Option<Seed>) -> bool {
        let is_quiet = self.queue.is_empty() && self.travelling.is_none() && self.desk.is_none();
        self.blocks.front().is_some_and(|block| {
            let is_current = self.is_current(block.epoch);
            let is_holes = is_current && block.records.is_empty() && !block.ends;
            !is_holes || is_quiet || seed == Some(Seed::HolesNotedAnyTime)
        })
    }

    /// The accumulator takes the block: a batch of its own, or holes alone.
    pub fn absorb(&mut self, around: &mut Around<'_>) {
        let Some(mut block) = self.blocks.pop_front() else {
            return;
        };
        let Some(holding) = self.holding.clone() else {
            return;
        };
        if holding.epoch != block.epoch {
            if around.seed != Some(Seed::StaleBlockTaken) || holding.pending.is_some() {
                return;
            }
            block.epoch = holding.epoch;
        }
        let batch = match &holding.pending {
            Some(pending) => replay_batch(&holding, pending, &block, around),
            None if block.records.is_empty() && !block.ends => {
                let held = self
                    .slot
                    .as_deref()
                    .filter(|held| held.checkpoint.epoch == block.epoch);
                if let Some(held) = held.filter(|_| self.desk.is_none()).cloned() {
                    let request = Request::Holes { to: block.position };
                    self.ask_work(held, request, Asker::Accumulator, around);
                }
                return;
            }
            None => {
                let position = block.position.max(holding.begin);
                block.position = position;
                fresh_batch(&holding, holding.begin, &block, around)
            }
        };
        if let Some(holding) = &mut self.holding {
            Arc::make_mut(holding).begin = batch.end;
        }
        self.queue.push_back(Arc::new(batch));
        self.local(around);
    }

    /// The process ends here; what it had sent may still take effect.
    pub fn crash(&mut self, sends: bool, around: &mut Around<'_>) {
        if sends {
            if let Some(Io::Put(swap)) = self.desk.as_ref().map(|desk| &desk.io) {
                let put = Put::Checkpoint {
                    key: around.setup.checkpoint_key(),
                    body: swap.body.clone(),
                    condition: swap.condition.clone(),
                };
                around.late.push(Arc::new(put));
            }
            if let Some(travelling) = &self.travelling
                && let PassageAction::Upload(UploadAction::Create {
                    index,
                    offsets,
                    gap,
                }) = &travelling.action
            {
                let file = file(travelling, *index, offsets.clone(), *gap, around.setup);
                around.late.push(Arc::new(Put::File {
                    key: travelling.batch.keys[*index].clone(),
                    file: Arc::new(file),
                    create_only: around.seed != Some(Seed::Overwrite),
                }));
            }
        }
        *self = Writer {
            generation: self.generation + 1,
            ..Writer::default()
        };
    }
}

pub(super) fn is_out_of_range(reading: &Reading, log: &Log) -> bool {
    let is_complete = reading.end.is_some_and(|end| reading.next >= end);
    !is_complete && (reading.next < log.low || reading.next > log.high)
}

pub(super) fn last_record(block: &Block) -> Option<LastRecord> {
    let offset = block.records.iter().last()?;
    Some(LastRecord {
        offset,
        timestamp_ms: offset,
        hash: u64::from(block.log),
    })
}

pub(super) fn fresh_batch(
    holding: &Holding,
    start: i64,
    block: &Block,
    around: &Around<'_>,
) -> Batch {
    let setup = around.setup;
    let (layout, end) = (setup.layout.clone(), block.position);
    let mut folders: Vec<&str> = block
        .records
        .iter()
        .filter(|offset| !setup.rejects.contains(*offset))
        .map(|offset| setup.folder(&layout, offset))
        .collect();
    folders.sort_unstable();
    folders.dedup();
    let keys = match block.records.is_empty() {
        true => Vec::new(),
        false => {
            let names = &setup.names;
            let data = folders
                .iter()
                .map(|folder| names.data_file(folder, PARTITION, start, end));
            data.chain([names.dead_letters_file(PARTITION, start, end)])
                .collect()
        }
    };
    batch(holding, start, end, keys, layout, block, around)
}

pub(super) fn replay_batch(
    holding: &Holding,
    pending: &Pending,
    block: &Block,
    around: &Around<'_>,
) -> Batch {
    let layout = match around.seed {
        Some(Seed::ReplayByTodaysLayout) => around.setup.layout.clone(),
        _ => Arc::new(pending.layout.clone()),
    };
    let keys = pending.keys.clone();
    batch(
        holding,
        holding.begin,
        pending.end,
        keys,
        layout,
        block,
        around,
    )
}

pub(super) fn batch(
    holding: &Holding,
    start: i64,
    end: i64,
    keys: Vec<String>,
    layout: Arc<Layout>,
    block: &Block,
    around: &Around<'_>,
) -> Batch {
    let setup = around.setup;
    let mut planned = vec![OffsetSet::default(); keys.len()];
    for offset in block.records.iter() {
        let is_reject = setup.rejects.contains(offset) || block.forced.contains(offset);
        let folder = setup.folder(&layout, offset);
        let name = setup.names.data_file(folder, PARTITION, start, end);
        let name = &name[setup.names.data.len()..];
        let data = keys.iter().take(keys.len().saturating_sub(1));
        let index = match is_reject {
            true => keys.len().checked_sub(1),
            false => data.clone().position(|key| key.ends_with(name)),
        };
        if let Some(index) = index {
            planned[index].insert(offset);
        }
    }
    Batch {
        epoch: holding.epoch,
        start,
        end,
        keys,
        planned,
        read: block.records.clone(),
        last: last_record(block),
        layout,
        log: block.log,
        closes_claim: block.ends,
    }
}

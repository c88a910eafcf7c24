//! A changed configuration: what it restarts, and what becomes of one that is not valid.

use std::sync::Arc;
use std::time::Instant;

use slog::{error, info, warn};

use super::Supervisor;
use super::group::changed_groups;
use super::slot::Phase;
use crate::config::Config;

impl Supervisor {
    /// Loads the configuration again; where it is valid, the groups made from what changed are
    /// drained and started again.
    pub(super) fn reload(&mut self, now: Instant) {
        if self.ending.is_some() {
            warn!(self.plan.log, "reload ignored, the process is ending");
            return;
        }
        self.plan.notifier.reloading();
        match (self.plan.load)() {
            Ok(config) => self.apply(config, now),
            Err(mistakes) => {
                for mistake in &mistakes {
                    error!(self.plan.log, "mistake in the configuration"; "error" => mistake);
                }
                error!(self.plan.log, "reload refused, the old configuration goes on";
                    "mistakes" => mistakes.len());
                let words = format!("the last reload was refused: {}", mistakes.join("; "));
                self.plan.status.trouble("configuration", &words, false);
            }
        }
        self.plan.notifier.reloaded(now);
    }

    fn apply(&mut self, config: Config, now: Instant) {
        self.plan.status.mended("configuration");
        self.plan.level.set(config.log.level);
        if config.log.format != self.config.log.format {
            warn!(
                self.plan.log,
                "log.format changes only with a restart of the process"
            );
        }
        let changed = changed_groups(&self.config, &config);
        let names: Vec<&str> = changed.iter().map(|group| group.as_str()).collect();
        info!(self.plan.log, "configuration loaded again"; "restarts" => names.join(", "));
        self.config = Arc::new(config);
        self.next_look = now;
        for slot in &mut self.slots {
            if !changed.contains(&slot.group.name) {
                continue;
            }
            slot.policy.forget();
            match &mut slot.phase {
                Phase::Running(_) => slot.stale = true,
                Phase::BackingOff { until } => *until = now,
                Phase::Idle | Phase::Leaving(..) => {}
            }
        }
    }
}

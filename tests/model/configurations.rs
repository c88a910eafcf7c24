//! What is run: small bounds at every test run, and the same configurations with more faults in
//! the long form.

use std::time::Instant;

use groundtrack::landing::offsets::OffsetSet;
use stateright::{Checker, HasDiscoveries, Model};

use crate::invariants::{calm_step, said};
use crate::model::{Budget, Protocol, Step, layout};

/// A configuration is visited up to so many states, those fewest steps away first: all together
/// take about a minute.
const STATES_MAX: usize = 80_000;
/// And in the long form, where the fingerprints of all are held in memory.
const STATES_MAX_LONG: usize = 3_000_000;

/// Whether the long form is asked for.
fn is_long() -> bool {
    std::env::var("GROUNDTRACK_MODEL").is_ok_and(|form| form == "long")
}

/// What the model found: which property fails, and the shortest way there.
pub struct Found {
    pub property: &'static str,
    pub steps: Vec<String>,
}

/// Visits every state within the bounds, or up to the first that breaks a property. Breadth
/// first: what is found is as short as can be. With a property, only up to where that breaks.
pub fn explore(model: Protocol, property: Option<&'static str>) -> Option<Found> {
    let (name, seed) = (model.name, model.seed);
    let began = Instant::now();
    let until = match property {
        Some(property) => HasDiscoveries::AnyOf([property].into()),
        None => HasDiscoveries::AnyFailures,
    };
    let checker = model
        .checker()
        .threads(1)
        .finish_when(until)
        .target_state_count(if is_long() {
            STATES_MAX_LONG
        } else {
            STATES_MAX
        })
        .spawn_bfs()
        .join();
    println!(
        "{name}{}: {} states, depth {}, {:.1} s",
        seed.map_or(String::new(), |seed| format!(" with {seed:?}")),
        checker.unique_state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
    let mut discoveries = checker.discoveries().into_iter();
    let found = discoveries.find(|(found, _)| property.is_none_or(|property| *found == property));
    found.map(|(property, path)| Found {
        property,
        steps: path.into_actions().iter().map(said).collect(),
    })
}

fn holds(model: Protocol) {
    let name = model.name;
    if let Some(found) = explore(model, None) {
        panic!(
            "{name}: not \"{}\" after {} steps: {:#?}",
            found.property,
            found.steps.len(),
            found.steps
        );
    }
}

fn set(offsets: &[i64]) -> OffsetSet {
    offsets.iter().copied().collect()
}

/// A budget, and what the long form has more of it.
fn budget(short: Budget, long: impl FnOnce(&mut Budget)) -> Budget {
    let mut budget = short;
    if is_long() {
        long(&mut budget);
    }
    budget
}

pub const CALM: Budget = Budget {
    claims: 3,
    crashes: 0,
    lost: 0,
    rebalances: 0,
    retentions: 0,
    words: 0,
    renewals: 0,
    deletions: 0,
    strangers: 0,
};

/// One writer that crashes and loses answers, or whose partition is taken and given back while a
/// block is under way.
pub fn given_back() -> Protocol {
    let short = Budget {
        lost: 1,
        crashes: 1,
        rebalances: 1,
        claims: 3,
        ..CALM
    };
    let budget = budget(short, |budget| {
        budget.rebalances += 1;
        budget.claims += 2;
    });
    Protocol::new("given back", 1, 2, budget).with(|model| model.setups[0].blocks_max = 2)
}

/// Every version of the checkpoint is remembered.
pub fn versions() -> Protocol {
    let budget = Budget {
        lost: 1,
        rebalances: 1,
        claims: 3,
        ..CALM
    };
    Protocol::new("versions", 2, 1, budget).with(|model| model.versions = true)
}

/// A gap is passed by the word while the partition is taken and given back.
pub fn gap_given_back() -> Protocol {
    let short = Budget {
        retentions: 1,
        words: 1,
        rebalances: 2,
        claims: 4,
        ..CALM
    };
    let budget = budget(short, |budget| {
        budget.lost += 1;
        budget.claims += 1;
    });
    Protocol::new("a gap given back", 2, 1, budget)
}

/// Two writers of one opinion, that crash, lose answers and the partition.
pub fn two_writers() -> Protocol {
    let short = Budget {
        lost: 1,
        rebalances: 1,
        ..CALM
    };
    let budget = budget(short, |budget| {
        budget.claims += 1;
        budget.crashes += 1;
    });
    Protocol::new("two writers", 2, 2, budget)
}

/// Decoders that disagree on what to reject and on the folder of a record.
pub fn two_opinions() -> Protocol {
    let short = Budget {
        lost: 1,
        crashes: 0,
        rebalances: 1,
        ..CALM
    };
    let budget = budget(short, |budget| {
        budget.claims += 1;
        budget.crashes += 1;
    });
    Protocol::new("two opinions", 2, 2, budget).with(|model| {
        for setup in &mut model.setups {
            setup.layout = layout(true);
        }
        model.setups[0].second = set(&[1]);
        model.setups[1].rejects = set(&[0]);
        model.setups[1].decoder = 2;
    })
}

/// Retention while a range is pending and while none is, and the operator's word.
pub fn retention() -> Protocol {
    let short = Budget {
        crashes: 1,
        retentions: 2,
        words: 1,
        rebalances: 0,
        lost: 0,
        claims: 5,
        ..CALM
    };
    let budget = budget(short, |budget| {
        budget.lost += 1;
        budget.words += 1;
        budget.claims += 1;
    });
    Protocol::new("retention", 1, 3, budget)
}

/// Retention and two writers that disagree on what to reject.
pub fn retention_of_two() -> Protocol {
    let short = Budget {
        retentions: 1,
        words: 1,
        rebalances: 1,
        claims: 4,
        ..CALM
    };
    let budget = budget(short, |budget| {
        budget.lost += 1;
        budget.claims += 1;
    });
    Protocol::new("retention, two opinions", 2, 2, budget).with(|model| {
        model.setups[1].rejects = set(&[1]);
        model.setups[1].decoder = 2;
    })
}

/// Layout and folders are changed from one writer to the other.
pub fn changed_layout() -> Protocol {
    let short = Budget {
        rebalances: 1,
        ..CALM
    };
    let budget = budget(short, |budget| {
        budget.crashes += 1;
        budget.claims += 1;
    });
    Protocol::new("changed layout and folders", 2, 2, budget).with(|model| {
        model.setups[1].layout = layout(true);
        model.setups[1].second = set(&[1]);
        model.setups[1].names.data = "data2".into();
        model.setups[1].names.dead_letters = "dead2".into();
    })
}

/// A log with holes, at its end too.
pub fn holes() -> Protocol {
    let short = Budget {
        crashes: 1,
        rebalances: 1,
        claims: 3,
        ..CALM
    };
    let budget = budget(short, |budget| {
        budget.lost += 1;
        budget.retentions += 1;
        budget.words += 1;
    });
    Protocol::new("holes", 1, 4, budget).with(|model| model.log.holes = set(&[1, 3]))
}

/// The topic is deleted and made anew.
pub fn renewal() -> Protocol {
    let short = Budget {
        crashes: 1,
        renewals: 1,
        claims: 4,
        ..CALM
    };
    let budget = budget(short, |budget| {
        budget.lost += 1;
        budget.claims += 1;
    });
    Protocol::new("a topic made anew", 1, 3, budget)
}

/// Two groups that start in one folder.
pub fn two_groups() -> Protocol {
    let short = Budget {
        crashes: 1,
        claims: 5,
        ..CALM
    };
    let budget = budget(short, |budget| budget.lost += 1);
    Protocol::new("two groups", 2, 2, budget).with(|model| model.setups[1].names.group = "h".into())
}

/// The checkpoint is deleted, and somebody else's objects lie under our keys.
pub fn outsiders() -> Protocol {
    let short = Budget {
        deletions: 1,
        strangers: 1,
        rebalances: 1,
        ..CALM
    };
    let budget = budget(short, |budget| {
        budget.lost += 1;
        budget.claims += 1;
    });
    Protocol::new("outsiders", 2, 2, budget)
}

/// Three writers.
pub fn three_writers() -> Protocol {
    let short = Budget {
        rebalances: 2,
        claims: 3,
        ..CALM
    };
    let budget = budget(short, |budget| {
        budget.lost += 1;
        budget.claims += 1;
    });
    Protocol::new("three writers", 3, 2, budget)
}

macro_rules! tests {
    ($($name:ident)*) => {
        mod holds {
            $(
                #[test]
                fn $name() {
                    super::holds(super::$name());
                }
            )*
        }
    };
}

tests! {
    given_back
    versions
    two_writers
    two_opinions
    retention
    gap_given_back
    retention_of_two
    changed_layout
    holes
    renewal
    two_groups
    outsiders
    three_writers
}

/// What nothing disturbs is claimed once: a claim does not end for nothing.
#[test]
fn a_calm_run_claims_once() {
    let model = Protocol::new("calm", 1, 4, CALM).with(|model| model.span_max = 1);
    let mut state = model.init_states().remove(0);
    let mut claims = 0;
    while let Some(step) = calm_step(&model, &state) {
        claims += usize::from(matches!(step, Step::Claim(_)));
        model.act(&mut state, step);
    }
    assert_eq!(claims, 1);
}

//! What is planned, and how it comes about.

use std::collections::HashMap;
use std::io::Write;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use super::Step;
use super::errors::Planned;

/// Which side of a step's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// It has not taken effect.
    Before,
    /// It has taken effect, or was refused, and nobody knows yet.
    After,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A panic.
    Panic,
    /// The step's own error. Behind the effect: its answer is lost.
    Error,
    /// A put's 409.
    Conflict,
    /// A put's 412.
    Precondition,
    /// The process ends at once, as by SIGKILL.
    Abort,
    /// Nothing happens for so long.
    Delay(Duration),
    /// Nothing happens any more.
    Hang,
    /// Nothing happens any more, on the whole thread.
    Stuck,
}

/// Hangs of threads end after this, so that no test leaves a thread behind for ever.
const THREAD_HANG: Duration = Duration::from_secs(600);

type Faults = HashMap<(Step, Side), Vec<(Kind, u64)>>;

static FAULTS: LazyLock<Mutex<Faults>> = LazyLock::new(|| {
    let mut faults = Faults::new();
    if let Ok(text) = std::env::var("GROUNDTRACK_FAULTS") {
        read(&mut faults, &text);
    }
    ANY.store(!faults.is_empty(), Ordering::Relaxed);
    Mutex::new(faults)
});

/// Whether any fault is planned: most passes need no more than this look.
static ANY: AtomicBool = AtomicBool::new(true);

impl FromStr for Side {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "before" => Ok(Self::Before),
            "after" => Ok(Self::After),
            _ => Err(format!("no side of a step is called {text}: before, after")),
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "panic" => Self::Panic,
            "error" => Self::Error,
            "conflict" => Self::Conflict,
            "precondition" => Self::Precondition,
            "abort" => Self::Abort,
            "hang" => Self::Hang,
            "stuck" => Self::Stuck,
            _ => {
                let ms = text.strip_prefix("delay-").and_then(|ms| ms.parse().ok());
                Self::Delay(Duration::from_millis(ms.ok_or_else(|| {
                    format!(
                        "no fault is called {text}: panic, error, conflict, precondition, abort, \
                         delay-MILLISECONDS, hang, stuck"
                    )
                })?))
            }
        })
    }
}

fn read(faults: &mut Faults, text: &str) {
    for entry in text.split(',').filter(|entry| !entry.is_empty()) {
        let (step, side, kind, pass) = entry_of(entry).unwrap_or_else(|wrong| {
            panic!("a fault is step:side=kind@pass, and {entry:?} is none: {wrong}")
        });
        faults.entry((step, side)).or_default().push((kind, pass));
    }
}

fn entry_of(entry: &str) -> Result<(Step, Side, Kind, u64), String> {
    let (point, rest) = entry.split_once('=').ok_or("there is no =")?;
    let (name, side) = point.split_once(':').ok_or("there is no side")?;
    let step = Step::ALL.iter().find(|step| step.row().name == name);
    let (kind, pass) = rest.split_once('@').unwrap_or((rest, "1"));
    Ok((
        *step.ok_or_else(|| format!("no step is called {name}; see docs/fault-points.md"))?,
        side.parse()?,
        kind.parse()?,
        pass.parse()
            .map_err(|_| format!("{pass} is no number of a pass"))?,
    ))
}

/// Adds faults, written as in the module's description.
///
/// # Panics
/// When it is written in another way.
pub fn plan(text: &str) {
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    read(&mut faults, text);
    ANY.store(!faults.is_empty(), Ordering::Relaxed);
}

/// Forgets all planned faults.
pub fn clear() {
    FAULTS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
    ANY.store(false, Ordering::Relaxed);
}

/// The fault of this pass, if one is planned.
fn due(step: Step, side: Side) -> Option<Kind> {
    if !ANY.load(Ordering::Relaxed) {
        return None;
    }
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let planned = faults.get_mut(&(step, side))?;
    for (_, pass) in planned.iter_mut() {
        *pass = pass.saturating_sub(1);
    }
    let index = planned.iter().position(|(_, pass)| *pass == 0)?;
    let (kind, _) = planned.swap_remove(index);
    note(step, side, kind);
    Some(kind)
}

/// A fault that is about to happen.
fn note(step: Step, side: Side, kind: Kind) {
    let Ok(path) = std::env::var("GROUNDTRACK_FAULTS_FIRED") else {
        return;
    };
    let fired = std::fs::File::options()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| writeln!(file, "{}:{side:?}={kind:?}", step.row().name));
    fired.unwrap_or_else(|error| panic!("GROUNDTRACK_FAULTS_FIRED={path}: {error}"));
}

/// What does not need to wait; else how long to.
fn at_once<E: Planned>(step: Step, side: Side, kind: Kind) -> Result<Option<Duration>, E> {
    match kind {
        Kind::Panic => panic!("planned fault: {} {side:?}", step.row().name),
        Kind::Abort => std::process::abort(),
        Kind::Error | Kind::Conflict | Kind::Precondition => Err(E::planned(kind)),
        Kind::Delay(delay) => Ok(Some(delay)),
        Kind::Hang | Kind::Stuck => Ok(None),
    }
}

async fn pass<E: Planned>(step: Step, side: Side, kind: Kind) -> Result<(), E> {
    if kind == Kind::Stuck {
        std::thread::sleep(THREAD_HANG);
    }
    match at_once(step, side, kind)? {
        Some(delay) => tokio::time::sleep(delay).await,
        None => std::future::pending().await,
    }
    Ok(())
}

fn pass_on_thread<E: Planned>(step: Step, side: Side) -> Result<(), E> {
    if let Some(kind) = due(step, side) {
        std::thread::sleep(at_once(step, side, kind)?.unwrap_or(THREAD_HANG));
    }
    Ok(())
}

/// Does a step. What `effect` does before its first await is done within this call, as without
/// faults: a message is in its mailbox when this returns.
pub(crate) fn within<T, E: Planned, F: Future<Output = Result<T, E>>>(
    step: Step,
    effect: impl FnOnce() -> F,
) -> impl Future<Output = Result<T, E>> {
    let begun = match due(step, Side::Before) {
        None => Ok(effect()),
        Some(kind) => Err((kind, effect)),
    };
    async move {
        let answer = match begun {
            Ok(effect) => effect.await,
            Err((kind, effect)) => {
                pass(step, Side::Before, kind).await?;
                effect().await
            }
        };
        if let Some(kind) = due(step, Side::After) {
            pass(step, Side::After, kind).await?;
        }
        answer
    }
}

/// Does a step on a thread that may block.
pub(crate) fn on_thread<T, E: Planned>(
    step: Step,
    effect: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    pass_on_thread(step, Side::Before)?;
    let answer = effect();
    pass_on_thread(step, Side::After)?;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_step_side_kind_and_pass() {
        assert_eq!(
            entry_of("decode:before=panic@3"),
            Ok((Step::Decode, Side::Before, Kind::Panic, 3))
        );
        assert_eq!(
            entry_of("claim-swap:after=delay-20"),
            Ok((
                Step::ClaimSwap,
                Side::After,
                Kind::Delay(Duration::from_millis(20)),
                1
            ))
        );
        for (wrong, why) in [
            ("flattener=panic", "side"),
            ("decode:during=panic", "before, after"),
            ("decoder:before=panic", "no step is called decoder"),
            ("decode:before=oops", "no fault is called oops"),
            ("decode:before=panic@x", "no number"),
        ] {
            let said = entry_of(wrong).unwrap_err();
            assert!(said.contains(why), "{wrong}: {said}");
        }
    }

    #[test]
    fn names_of_steps_are_unique() {
        let names: std::collections::BTreeSet<_> =
            Step::ALL.iter().map(|step| step.row().name).collect();
        assert_eq!(names.len(), Step::ALL.len());
    }
}

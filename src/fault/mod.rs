//! Faults on request, for tests: a panic, an error, a delay or an abort before or after the effect
//! of any step from poll to commit. Compiled out of a release build, where each function here does
//! the work that it is given and nothing else.
//!
//! [`Step`] names every step. Whatever asks the store ([`Stepped`]), the broker ([`Stepped`]),
//! the group (`landing/consumer/member.rs`), another actor ([`Way`]) or a thread for CPU work
//! (`landing/cpu.rs`) names its step, because the types let it be asked in no other way; clippy
//! refuses, in `ingest` and `landing`, what would go around them (`clippy.toml`). The clients of
//! the source and of the producer are each called in one place, within a step.
//!
//! `GROUNDTRACK_FAULTS="decode:before=panic@3,claim-swap:after=error"` (or [`plan`]) makes the
//! third decode panic before it has decoded, and loses the answer of the first swap of a claim
//! though it took effect. The kinds are `panic`, `error` (the error that the step's row in
//! `docs/fault-points.md` names), `conflict` and `precondition` (a put's 409 and 412), `abort`,
//! `delay-MILLISECONDS`, `hang`, a delay without end, and `stuck`, one that
//! takes the whole thread with it. With `GROUNDTRACK_FAULTS_FIRED` each
//! fault is noted in the file that it names before it happens.

mod step;
mod stepped;
mod way;

pub use self::step::Step;
#[cfg(debug_assertions)]
pub use self::step::{By, Row, Then};
pub use self::stepped::Stepped;
pub use self::way::Way;

#[cfg(debug_assertions)]
mod errors;
#[cfg(debug_assertions)]
mod planned;

#[cfg(debug_assertions)]
pub use self::errors::Planned;
#[cfg(debug_assertions)]
pub use self::planned::{Kind, Side, clear, plan};
#[cfg(debug_assertions)]
pub(crate) use self::planned::{on_thread, within};

/// An error that a fault can be planned with; in a release build any is.
#[cfg(not(debug_assertions))]
pub trait Planned {}

#[cfg(not(debug_assertions))]
impl<E> Planned for E {}

/// Does a step.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn within<T, E, F: Future<Output = Result<T, E>>>(
    _: Step,
    effect: impl FnOnce() -> F,
) -> F {
    effect()
}

/// Does a step on a thread that may block.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn on_thread<T, E>(_: Step, effect: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    effect()
}

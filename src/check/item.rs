//! What is asked, what it answered, and how long it may take.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Of all questions together, which are asked side by side. With what starting and ending takes, a
/// check of nothing but silence is over within ten seconds.
const ASKING_MAX: Duration = Duration::from_millis(7_500);

/// See [`Limit::left`].
const BLOCKING_BEFORE: Duration = Duration::from_millis(300);

/// Beyond the questions, for removing what a careless server has made of them.
const TIDYING_MAX: Duration = Duration::from_millis(1_500);

/// What was asked, what it answered, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// `configuration`, `source`, `brokers`, `topic` and so on: README lists them.
    pub name: &'static str,
    /// What it answered, or what is wrong and how to mend it.
    pub finding: Finding,
    /// How long that took.
    pub took: Duration,
}

/// What an item answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// As it should be.
    Well(String),
    /// The service works, but a person wants to know: what could not be looked at, or what will
    /// cost more than it should.
    Noted(Problem),
    /// The service will not work, or not for long.
    Wrong(Problem),
}

/// What is wrong, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What was answered, or that nothing was.
    pub answer: String,
    /// What the operator can do.
    pub mend: String,
    /// What does it, to be copied: a command, or a line of a document.
    pub command: Option<String>,
}

impl Problem {
    /// What is wrong, and how to mend it.
    pub fn new(answer: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            answer: answer.into(),
            mend: mend.into(),
            command: None,
        }
    }

    /// The same, with what mends it.
    pub(super) fn by(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    /// How to mend it, in one line.
    pub fn mend_in_full(&self) -> String {
        match &self.command {
            None => self.mend.clone(),
            Some(command) => format!("{}: {command}", self.mend),
        }
    }

    /// What an item says that was cut short by the operator.
    pub(super) fn interrupted() -> Self {
        Self::new("interrupted", "run the check again")
    }

    /// What an item says whose question makes no sense yet.
    pub(super) fn not_asked(first: &str) -> Self {
        Self::new("not asked", format!("mend the {first} first"))
    }
}

impl Finding {
    /// Whether the service can work with it.
    pub fn is_well(&self) -> bool {
        !matches!(self, Self::Wrong(_))
    }

    /// What is wrong or worth knowing.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Well(_) => None,
            Self::Noted(problem) | Self::Wrong(problem) => Some(problem),
        }
    }
}

impl From<Result<String, Problem>> for Finding {
    fn from(result: Result<String, Problem>) -> Self {
        match result {
            Ok(answer) => Self::Well(answer),
            Err(problem) => Self::Wrong(problem),
        }
    }
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        Self::Wrong(problem)
    }
}

impl Item {
    /// What was asked since then, and is answered now.
    pub(super) fn new(name: &'static str, since: Instant, finding: impl Into<Finding>) -> Self {
        Self {
            name,
            finding: finding.into(),
            took: since.elapsed(),
        }
    }
}

/// Until when questions may be asked and tidied up after.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    since: Instant,
    stop: CancellationToken,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// None came in time.
    Late,
    /// The operator has ended the check.
    Stopped,
}

impl Limit {
    pub(super) fn from_now(stop: CancellationToken) -> Self {
        Self {
            since: Instant::now(),
            stop,
        }
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self::from_now(CancellationToken::new())
    }

    /// When the last answer is waited for.
    pub(super) fn asking_until(&self) -> Instant {
        self.since + ASKING_MAX
    }

    /// How long a call that blocks may still take, at most so long: it ends before its thread is
    /// given up, so that its own words are heard.
    pub(super) fn left(&self, at_most: Duration) -> Duration {
        let until = self.asking_until() - BLOCKING_BEFORE;
        until.saturating_duration_since(Instant::now()).min(at_most)
    }

    /// Why no further question should be asked, if so.
    pub(super) fn cut(&self) -> Option<Cut> {
        match self.stop.is_cancelled() {
            true => Some(Cut::Stopped),
            false => self.left(ASKING_MAX).is_zero().then_some(Cut::Late),
        }
    }

    /// Waits for an answer as long as may be.
    pub(super) async fn wait<T>(&self, answer: impl Future<Output = T>) -> Result<T, Cut> {
        let until = tokio::time::Instant::from_std(self.asking_until());
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Cut::Stopped),
            answer = answer => Ok(answer),
            () = tokio::time::sleep_until(until) => Err(Cut::Late),
        }
    }

    /// Waits for tidying up, which the operator cannot end.
    pub(super) async fn wait_for_tidying<T>(
        &self,
        answer: impl Future<Output = T>,
    ) -> Result<T, Cut> {
        let until = self.asking_until().max(Instant::now()) + TIDYING_MAX;
        let until = tokio::time::Instant::from_std(until);
        tokio::time::timeout_at(until, answer)
            .await
            .map_err(|_| Cut::Late)
    }

    /// How long the check waited for what never came.
    pub(super) fn seconds(&self) -> f32 {
        self.since.elapsed().as_secs_f32()
    }
}

impl Cut {
    /// What to say of a question to `whom` that was cut short.
    pub(super) fn problem(self, limit: &Limit, whom: &str, mend: &str) -> Problem {
        match self {
            Self::Stopped => Problem::interrupted(),
            Self::Late => Problem::new(
                format!("{whom}: no answer within {:.0} s", limit.seconds()),
                mend,
            ),
        }
    }
}

//! When issuer and root are replaced: what is there and how much time has passed in, the next step out.
//!
//! A new root is followed by those who know only the old one, as the old one vouches for it in every chain. Certificates of the
//! old issuer are not followed by those who know only the new root, so the old root is handed out until the last of them has
//! expired. Time in a stage is time that sentry has seen pass, not a difference of dates: a clock that jumps ends no stage.

pub mod record;
mod steps;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use record::Record;
pub use steps::apply;

/// Where the replacement of a root stands. Q-sentry-rotation
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Nothing is being replaced.
    #[default]
    Idle,
    /// Old and new root are handed out; the old issuer signs.
    Distribute,
    /// The new issuer signs for workloads; sentry shows a certificate of the old one.
    Sign,
    /// The new issuer signs everything; both roots are still handed out.
    Retire,
}

impl Stage {
    /// As it stands in annotations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Distribute => "distribute",
            Self::Sign => "sign",
            Self::Retire => "retire",
        }
    }

    /// As it stands in the metric.
    pub fn number(self) -> u8 {
        match self {
            Self::Idle => 0,
            Self::Distribute => 1,
            Self::Sign => 2,
            Self::Retire => 3,
        }
    }
}

/// What may be replaced, and how long it lives.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Issuers are replaced; roots live for long, and their keys are kept.
    pub issuer: bool,
    /// Roots are replaced.
    pub root: bool,
    pub root_life: Duration,
    pub issuer_life: Duration,
    /// Until every replica has noticed what another one has written, and every file in a pod follows.
    pub settle: Duration,
}

/// What there is.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub stage: Stage,
    /// Time that was seen to pass in this stage, and the part of it that is written down.
    pub passed: Duration,
    pub written: Duration,
    /// Longest life of a certificate that may be in use, with the difference of clocks.
    pub longest: Duration,
    /// Begin and end of the issuer in the store, and the end of its root.
    pub issuer_begin: Timestamp,
    pub issuer_end: Timestamp,
    pub root_end: Timestamp,
    /// Whether the root can sign.
    pub root_key: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing for this time.
    Wait(Duration),
    /// Write down how much time has passed.
    Note,
    /// A new issuer under the same root.
    Issuer,
    /// Make a new root and hand it out.
    Begin,
    /// Sign for workloads under the new root.
    Sign,
    /// Sign sentry's own certificate under the new root.
    Own,
    /// Hand out the new root alone.
    Finish,
}

/// What is replaced is replaced when this part of its life is left.
const LEFT: u32 = 3;
/// Time that has passed is written down this many times in a stage.
const NOTES: u32 = 8;
/// Longest and shortest pause between two looks.
const LONGEST_LOOK: Duration = Duration::from_secs(300);
const SHORTEST_LOOK: Duration = Duration::from_millis(100);

/// The next step at `now`.
pub fn next(view: &View, plan: &Plan, now: Timestamp) -> Step {
    if now < view.issuer_begin {
        // The clock is wrong, and what is made now would be valid at the wrong time.
        return Step::Wait(LONGEST_LOOK);
    }
    let overlap = view.longest + plan.settle;
    match view.stage {
        Stage::Idle => idle(view, plan, now),
        Stage::Distribute if soon(view, plan, now) => Step::Sign,
        Stage::Distribute => after(view, overlap, Step::Sign),
        // An issuer that has expired signs nothing, sentry's own certificate neither.
        Stage::Sign if now >= view.issuer_end => Step::Own,
        // Certificates of the old issuer are in use for so long.
        Stage::Sign => after(view, overlap, Step::Own),
        // As long again: the stage before may have been cut short, by a clock that was wrong as well.
        Stage::Retire => after(view, overlap, Step::Finish),
    }
}

fn idle(view: &View, plan: &Plan, now: Timestamp) -> Step {
    if plan.root && due(view.root_end, plan.root_life, now) {
        return Step::Begin;
    }
    let issuer_due = due(view.issuer_end, plan.issuer_life, now);
    let lasts = left(view.root_end, view.issuer_end) > plan.issuer_life / LEFT;
    if issuer_due && plan.issuer && view.root_key && lasts {
        return Step::Issuer;
    }
    if issuer_due && plan.root {
        return Step::Begin;
    }
    Step::Wait(LONGEST_LOOK.min(plan.issuer_life / 100).max(SHORTEST_LOOK))
}

/// Whether the issuer ends before a stage can: signing under the new root is safe at any time, since the old one vouches for it.
fn soon(view: &View, plan: &Plan, now: Timestamp) -> bool {
    left(view.issuer_end, now) < view.longest.max(plan.settle)
}

/// Whether something is to be replaced: what is left of its life is a third of what lives of its kind are.
pub fn due(end: Timestamp, life: Duration, now: Timestamp) -> bool {
    left(end, now) < life / LEFT
}

fn left(end: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO)
}

fn after(view: &View, whole: Duration, step: Step) -> Step {
    if view.passed >= whole {
        return step;
    }
    let part = whole / NOTES;
    if view.passed >= view.written + part {
        return Step::Note;
    }
    let pause = (whole - view.passed).min(view.written + part - view.passed);
    Step::Wait(pause.clamp(SHORTEST_LOOK, LONGEST_LOOK))
}

#[cfg(test)]
mod tests;

//! How far a job has come, and what a delivery that worked or did not makes of it (contract 8.3).

use jiff::{SignedDuration, Timestamp};
use proto::cron::Counter;
use proto::scheduler::v1::failure_policy::Policy;
use proto::time::{from_wire, to_wire};

use crate::spec::Plan;

/// How far a job has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Times that are over, delivered or given up.
    pub count: u32,
    /// Deliveries of the present time that failed.
    pub attempts: u32,
    /// The time that was over last; the schedule goes on from there, whenever it was delivered.
    pub last: Option<Timestamp>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The job is due again.
    Due(Progress, Timestamp),
    /// The job is done, and goes.
    Done,
}

impl Progress {
    /// What a counter says about the job with this partition id; of another job it says nothing.
    pub fn of(counter: &Counter, partition: u64) -> Self {
        if counter.job_partition_id != partition {
            return Self::default();
        }
        Self {
            count: counter.count,
            attempts: counter.attempts,
            last: counter.last_trigger.as_ref().and_then(from_wire),
        }
    }

    /// What is stored.
    pub fn counter(self, partition: u64) -> Counter {
        Counter {
            job_partition_id: partition,
            count: self.count,
            last_trigger: self.last.map(to_wire),
            attempts: self.attempts,
        }
    }

    /// When the job is due.
    pub fn due(self, plan: &Plan) -> Step {
        if plan.repeats.is_some_and(|repeats| self.count >= repeats) {
            return Step::Done;
        }
        match plan.next(self.count, self.last) {
            Some(due) if plan.expiration.is_none_or(|expiration| due <= expiration) => {
                Step::Due(self, due)
            }
            _ => Step::Done,
        }
    }

    /// Behind a delivery that worked.
    pub fn succeeded(self, plan: &Plan) -> Step {
        Self {
            count: self.count.saturating_add(1),
            attempts: 0,
            last: plan.next(self.count, self.last).or(self.last),
        }
        .due(plan)
    }

    /// Behind a delivery that did not work, of a job that was `due` then.
    pub fn failed(mut self, plan: &Plan, due: Timestamp) -> Step {
        self.attempts = self.attempts.saturating_add(1);
        if let Some(Policy::Constant(constant)) = &plan.policy {
            if constant
                .max_retries
                .is_none_or(|retries| retries >= self.attempts)
            {
                let pause = constant
                    .interval
                    .as_ref()
                    .map_or(SignedDuration::ZERO, |pause| {
                        SignedDuration::from_secs(pause.seconds)
                            .saturating_add(SignedDuration::from_nanos(pause.nanos.into()))
                    });
                return Step::Due(self, due.saturating_add(pause).unwrap_or(Timestamp::MAX));
            }
            // Retries do not move the schedule.
            self.last = plan.next(self.count, self.last).or(self.last);
        } else {
            self.last = Some(due);
        }
        self.count = self.count.saturating_add(1);
        self.attempts = 0;
        self.due(plan)
    }
}

#[cfg(test)]
mod tests;

//! Reasons of the jobs block. They have no code of the older kind.

use tonic::Code;

use super::Reason;

const CATEGORY: &str = "job";

const fn reason(info: &'static str, http: u16, grpc: Code) -> Reason {
    Reason::rich("", info, http, grpc, CATEGORY)
}

const fn invalid(info: &'static str) -> Reason {
    reason(info, 400, Code::InvalidArgument)
}

const fn failed(info: &'static str) -> Reason {
    reason(info, 500, Code::Internal)
}

/// Scheduling fails with the code of the scheduler.
const fn schedule(http: u16, grpc: Code) -> Reason {
    reason("DAPR_SCHEDULER_SCHEDULE_JOB", http, grpc)
}

pub static EMPTY: Reason = invalid("DAPR_SCHEDULER_EMPTY");
pub static NAME_EMPTY: Reason = invalid("DAPR_SCHEDULER_JOB_NAME_EMPTY");
/// The name stands in the body, too.
pub static NAME: Reason = invalid("DAPR_SCHEDULER_JOB_NAME");
pub static SCHEDULE_EMPTY: Reason = invalid("DAPR_SCHEDULER_SCHEDULE_EMPTY");
pub static GET: Reason = failed("DAPR_SCHEDULER_GET_JOB");
pub static LIST: Reason = failed("DAPR_SCHEDULER_LIST_JOBS");
pub static DELETE: Reason = failed("DAPR_SCHEDULER_DELETE_JOB");

/// What a scheduler answers to a job that it does not take; the first holds for every other code.
static SCHEDULE: [Reason; 14] = [
    schedule(500, Code::Internal),
    schedule(499, Code::Cancelled),
    schedule(400, Code::InvalidArgument),
    schedule(504, Code::DeadlineExceeded),
    schedule(404, Code::NotFound),
    schedule(409, Code::AlreadyExists),
    schedule(403, Code::PermissionDenied),
    schedule(429, Code::ResourceExhausted),
    schedule(400, Code::FailedPrecondition),
    schedule(409, Code::Aborted),
    schedule(400, Code::OutOfRange),
    schedule(501, Code::Unimplemented),
    schedule(503, Code::Unavailable),
    schedule(401, Code::Unauthenticated),
];

/// The reason for a job that a scheduler has not taken.
pub fn schedule_of(code: Code) -> &'static Reason {
    let found = SCHEDULE.iter().find(|reason| reason.grpc == code);
    found.unwrap_or(&SCHEDULE[0])
}

pub static ALL: &[&Reason] = &[
    &EMPTY,
    &NAME_EMPTY,
    &NAME,
    &SCHEDULE_EMPTY,
    &GET,
    &LIST,
    &DELETE,
    &SCHEDULE[0],
    &SCHEDULE[1],
    &SCHEDULE[2],
    &SCHEDULE[3],
    &SCHEDULE[4],
    &SCHEDULE[5],
    &SCHEDULE[6],
    &SCHEDULE[7],
    &SCHEDULE[8],
    &SCHEDULE[9],
    &SCHEDULE[10],
    &SCHEDULE[11],
    &SCHEDULE[12],
    &SCHEDULE[13],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_there_is_a_conflict_and_codes_without_a_row_are_internal() {
        assert_eq!(schedule_of(Code::AlreadyExists).http, 409);
        for code in [Code::Unknown, Code::DataLoss, Code::Internal] {
            let reason = schedule_of(code);
            assert_eq!((reason.http, reason.grpc), (500, Code::Internal));
        }
    }
}

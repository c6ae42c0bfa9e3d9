//! Reasons of the lock block.

use tonic::Code;

use super::Reason;

const CATEGORY: &str = "lock";

pub static NOT_CONFIGURED: Reason = Reason::bare(
    "ERR_LOCK_STORE_NOT_CONFIGURED",
    500,
    Code::FailedPrecondition,
    CATEGORY,
);
pub static NOT_FOUND: Reason = Reason::bare(
    "ERR_LOCK_STORE_NOT_FOUND",
    400,
    Code::InvalidArgument,
    CATEGORY,
);
/// A field that is missing, or out of its range.
pub static MALFORMED: Reason = Reason::bare(
    "ERR_MALFORMED_REQUEST",
    400,
    Code::InvalidArgument,
    "common",
);
pub static TRY_LOCK: Reason = Reason::bare("ERR_TRY_LOCK", 500, Code::Internal, CATEGORY);
pub static UNLOCK: Reason = Reason::bare("ERR_UNLOCK", 500, Code::Internal, CATEGORY);

pub static ALL: &[&Reason] = &[&NOT_CONFIGURED, &NOT_FOUND, &MALFORMED, &TRY_LOCK, &UNLOCK];

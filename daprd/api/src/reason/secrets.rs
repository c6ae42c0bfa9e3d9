//! Reasons of the secrets block.

use tonic::Code;

use super::Reason;

const CATEGORY: &str = "secret";

pub static NOT_CONFIGURED: Reason = Reason::bare(
    "ERR_SECRET_STORES_NOT_CONFIGURED",
    500,
    Code::FailedPrecondition,
    CATEGORY,
);
pub static NOT_FOUND: Reason = Reason::bare(
    "ERR_SECRET_STORE_NOT_FOUND",
    401,
    Code::InvalidArgument,
    CATEGORY,
);
pub static DENIED: Reason = Reason::bare(
    "ERR_PERMISSION_DENIED",
    403,
    Code::PermissionDenied,
    CATEGORY,
);
pub static GET: Reason = Reason::bare("ERR_SECRET_GET", 500, Code::Internal, CATEGORY);

pub static ALL: &[&Reason] = &[&NOT_CONFIGURED, &NOT_FOUND, &DENIED, &GET];

//! Reasons of the configuration block.

use tonic::Code;

use super::Reason;

const CATEGORY: &str = "configuration";

pub static NOT_CONFIGURED: Reason = Reason::plain(
    "ERR_CONFIGURATION_STORE_NOT_CONFIGURED",
    500,
    Code::FailedPrecondition,
    CATEGORY,
);
pub static NOT_FOUND: Reason = Reason::plain(
    "ERR_CONFIGURATION_STORE_NOT_FOUND",
    400,
    Code::InvalidArgument,
    CATEGORY,
);
pub static GET: Reason = Reason::plain("ERR_CONFIGURATION_GET", 500, Code::Internal, CATEGORY);
pub static SUBSCRIBE: Reason = Reason::plain(
    "ERR_CONFIGURATION_SUBSCRIBE",
    500,
    Code::InvalidArgument,
    CATEGORY,
);
pub static UNSUBSCRIBE: Reason = Reason::plain(
    "ERR_CONFIGURATION_UNSUBSCRIBE",
    500,
    Code::Internal,
    CATEGORY,
);

pub static ALL: &[&Reason] = &[&NOT_CONFIGURED, &NOT_FOUND, &GET, &SUBSCRIBE, &UNSUBSCRIBE];

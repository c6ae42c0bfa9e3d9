//! Reasons of the health operations.

use tonic::Code;

use super::Reason;

const CATEGORY: &str = "health";

pub static NOT_READY: Reason = Reason::plain("ERR_HEALTH_NOT_READY", 500, Code::Internal, CATEGORY);
pub static OUTBOUND_NOT_READY: Reason = Reason::plain(
    "ERR_OUTBOUND_HEALTH_NOT_READY",
    500,
    Code::Internal,
    CATEGORY,
);
pub static APP_ID_DIFFERS: Reason =
    Reason::plain("ERR_HEALTH_APPID_NOT_MATCH", 500, Code::Internal, CATEGORY);

pub static ALL: &[&Reason] = &[&NOT_READY, &OUTBOUND_NOT_READY, &APP_ID_DIFFERS];

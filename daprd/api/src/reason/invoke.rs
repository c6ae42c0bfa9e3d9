//! Reasons of service invocation.

use tonic::Code;

use super::Reason;

const CATEGORY: &str = "service-invocation";

pub static FAILED: Reason = Reason::bare("ERR_DIRECT_INVOKE", 500, Code::Internal, CATEGORY);
pub static NO_APP_ID: Reason = Reason::bare("ERR_DIRECT_INVOKE", 404, Code::NotFound, CATEGORY);
pub static DENIED: Reason = Reason::bare("ERR_DIRECT_INVOKE", 403, Code::Internal, CATEGORY);

pub static ALL: &[&Reason] = &[&FAILED, &NO_APP_ID, &DENIED];

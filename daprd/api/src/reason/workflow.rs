//! Reasons of the workflow block.

use tonic::Code;

use super::Reason;

const CATEGORY: &str = "workflow";

const fn failed(code: &'static str) -> Reason {
    Reason::bare(code, 500, Code::Internal, CATEGORY)
}

const fn invalid(code: &'static str) -> Reason {
    Reason::bare(code, 400, Code::InvalidArgument, CATEGORY)
}

pub static START: Reason = failed("ERR_START_WORKFLOW");
pub static GET: Reason = failed("ERR_GET_WORKFLOW");
pub static PAUSE: Reason = failed("ERR_PAUSE_WORKFLOW");
pub static RESUME: Reason = failed("ERR_RESUME_WORKFLOW");
pub static TERMINATE: Reason = failed("ERR_TERMINATE_WORKFLOW");
pub static PURGE: Reason = failed("ERR_PURGE_WORKFLOW");
pub static RAISE_EVENT: Reason = failed("ERR_RAISE_EVENT_WORKFLOW");
pub static NAME_MISSING: Reason = invalid("ERR_WORKFLOW_NAME_MISSING");
pub static EVENT_NAME_MISSING: Reason = invalid("ERR_WORKFLOW_EVENT_NAME_MISSING");
pub static ID_TOO_LONG: Reason = invalid("ERR_INSTANCE_ID_TOO_LONG");
pub static ID_INVALID: Reason = invalid("ERR_INSTANCE_ID_INVALID");
pub static ID_MISSING: Reason = invalid("ERR_INSTANCE_ID_PROVIDED_MISSING");
pub static APP_ID_INVALID: Reason = invalid("ERR_WORKFLOW_APP_ID_INVALID");
pub static NOT_FOUND: Reason =
    Reason::bare("ERR_INSTANCE_ID_NOT_FOUND", 404, Code::NotFound, CATEGORY);

pub static ALL: &[&Reason] = &[
    &START,
    &GET,
    &PAUSE,
    &RESUME,
    &TERMINATE,
    &PURGE,
    &RAISE_EVENT,
    &NAME_MISSING,
    &EVENT_NAME_MISSING,
    &ID_TOO_LONG,
    &ID_INVALID,
    &ID_MISSING,
    &APP_ID_INVALID,
    &NOT_FOUND,
];

//! Reasons of the actors block.

use tonic::Code;

use super::Reason;

const fn reason(code: &'static str, http: u16, grpc: Code) -> Reason {
    Reason::plain(code, http, grpc, "actor")
}

const fn failed(code: &'static str) -> Reason {
    reason(code, 500, Code::Internal)
}

pub static NO_PLACEMENT: Reason = reason("ERR_ACTOR_NO_PLACEMENT", 400, Code::Unavailable);
pub static CLOSED: Reason = reason("ERR_ACTOR_RUNTIME_CLOSED", 503, Code::Unavailable);
pub static NO_ADDRESS: Reason = reason("ERR_ACTOR_NO_ADDRESS", 404, Code::FailedPrecondition);
pub static NO_APP_CHANNEL: Reason = reason("ERR_ACTOR_NO_APP_CHANNEL", 400, Code::Unavailable);
pub static TYPE_RESERVED: Reason = reason("ERR_ACTOR_TYPE_RESERVED", 403, Code::PermissionDenied);
pub static INSTANCE_MISSING: Reason = reason("ERR_ACTOR_INSTANCE_MISSING", 400, Code::Internal);
pub static INVOKE: Reason = failed("ERR_ACTOR_INVOKE_METHOD");
pub static STACK_DEPTH: Reason = reason("ERR_ACTOR_STACK_DEPTH", 500, Code::ResourceExhausted);
/// There is no state store for actors.
pub static NO_STORE: Reason = failed("ERR_ACTOR_RUNTIME_NOT_FOUND");
pub static STATE_GET: Reason = failed("ERR_ACTOR_STATE_GET");
pub static STATE_TRANSACTION: Reason = failed("ERR_ACTOR_STATE_TRANSACTION_SAVE");
pub static REMINDER_NON_HOSTED: Reason =
    reason("ERR_ACTOR_REMINDER_NON_HOSTED", 403, Code::PermissionDenied);
pub static REMINDER_CREATE: Reason = failed("ERR_ACTOR_REMINDER_CREATE");
pub static REMINDER_GET: Reason = failed("ERR_ACTOR_REMINDER_GET");
pub static REMINDER_DELETE: Reason = failed("ERR_ACTOR_REMINDER_DELETE");
pub static REMINDER_NOT_FOUND: Reason = reason("ERR_ACTOR_REMINDER_NOT_FOUND", 404, Code::NotFound);
pub static REMINDER_EXISTS: Reason = reason(
    "ERR_ACTOR_REMINDER_ALREADY_EXISTS",
    409,
    Code::AlreadyExists,
);
pub static TIMER_CREATE: Reason = failed("ERR_ACTOR_TIMER_CREATE");

pub static ALL: &[&Reason] = &[
    &NO_PLACEMENT,
    &CLOSED,
    &NO_ADDRESS,
    &NO_APP_CHANNEL,
    &TYPE_RESERVED,
    &INSTANCE_MISSING,
    &INVOKE,
    &STACK_DEPTH,
    &NO_STORE,
    &STATE_GET,
    &STATE_TRANSACTION,
    &REMINDER_NON_HOSTED,
    &REMINDER_CREATE,
    &REMINDER_GET,
    &REMINDER_DELETE,
    &REMINDER_NOT_FOUND,
    &REMINDER_EXISTS,
    &TIMER_CREATE,
];

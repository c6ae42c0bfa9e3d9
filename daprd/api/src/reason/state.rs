//! Reasons of the state block.

use tonic::Code;

use super::Reason;

const CATEGORY: &str = "state";

pub static NOT_FOUND: Reason = Reason::rich(
    "ERR_STATE_STORE_NOT_FOUND",
    "DAPR_STATE_NOT_FOUND",
    400,
    Code::InvalidArgument,
    CATEGORY,
);
pub static NOT_CONFIGURED: Reason = Reason::rich(
    "ERR_STATE_STORE_NOT_CONFIGURED",
    "DAPR_STATE_NOT_CONFIGURED",
    500,
    Code::FailedPrecondition,
    CATEGORY,
);
pub static ILLEGAL_KEY: Reason = Reason::rich(
    "ERR_MALFORMED_REQUEST",
    "DAPR_STATE_ILLEGAL_KEY",
    400,
    Code::InvalidArgument,
    CATEGORY,
);
pub static TRANSACTIONS_UNSUPPORTED: Reason = Reason::rich(
    "ERR_STATE_STORE_NOT_SUPPORTED",
    "DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED",
    500,
    Code::Unimplemented,
    CATEGORY,
);
pub static TOO_MANY_OPERATIONS: Reason = Reason::rich(
    "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS",
    "DAPR_STATE_TOO_MANY_TRANSACTIONS",
    400,
    Code::InvalidArgument,
    CATEGORY,
);
pub static QUERIES_UNSUPPORTED: Reason = Reason::rich(
    "ERR_STATE_STORE_NOT_SUPPORTED",
    "DAPR_STATE_QUERYING_NOT_SUPPORTED",
    500,
    Code::Internal,
    CATEGORY,
);
pub static QUERY: Reason = Reason::rich(
    "ERR_STATE_QUERY",
    "DAPR_STATE_QUERY_FAILED",
    500,
    Code::Internal,
    CATEGORY,
);
pub static VALUE: Reason = Reason::bare("ERR_MALFORMED_REQUEST", 400, Code::Unknown, CATEGORY);
pub static GET: Reason = Reason::plain("ERR_STATE_GET", 500, Code::Internal, CATEGORY);
pub static SAVE: Reason = Reason::plain("ERR_STATE_SAVE", 500, Code::Internal, CATEGORY);
pub static SAVE_EMPTY_KEY: Reason =
    Reason::plain("ERR_STATE_SAVE", 400, Code::InvalidArgument, CATEGORY);
pub static SAVE_ETAG_MISMATCH: Reason =
    Reason::plain("ERR_STATE_SAVE", 409, Code::Aborted, CATEGORY);
pub static SAVE_ETAG_INVALID: Reason =
    Reason::plain("ERR_STATE_SAVE", 400, Code::InvalidArgument, CATEGORY);
pub static DELETE: Reason = Reason::plain("ERR_STATE_DELETE", 500, Code::Internal, CATEGORY);
pub static DELETE_ETAG_MISMATCH: Reason =
    Reason::plain("ERR_STATE_DELETE", 409, Code::Aborted, CATEGORY);
pub static DELETE_ETAG_INVALID: Reason =
    Reason::plain("ERR_STATE_DELETE", 400, Code::InvalidArgument, CATEGORY);
pub static BULK_GET: Reason = Reason::plain("ERR_STATE_BULK_GET", 500, Code::Internal, CATEGORY);
pub static BULK_DELETE: Reason =
    Reason::plain("ERR_STATE_BULK_DELETE", 500, Code::Internal, CATEGORY);
pub static BULK_DELETE_ETAG_MISMATCH: Reason =
    Reason::plain("ERR_STATE_BULK_DELETE", 409, Code::Aborted, CATEGORY);
pub static BULK_DELETE_ETAG_INVALID: Reason = Reason::plain(
    "ERR_STATE_BULK_DELETE",
    400,
    Code::InvalidArgument,
    CATEGORY,
);
pub static TRANSACTION: Reason =
    Reason::plain("ERR_STATE_TRANSACTION", 500, Code::Internal, CATEGORY);
pub static UNSUPPORTED_OPERATION: Reason = Reason::plain(
    "ERR_NOT_SUPPORTED_STATE_OPERATION",
    400,
    Code::Unimplemented,
    CATEGORY,
);

pub static ALL: &[&Reason] = &[
    &NOT_FOUND,
    &NOT_CONFIGURED,
    &ILLEGAL_KEY,
    &TRANSACTIONS_UNSUPPORTED,
    &TOO_MANY_OPERATIONS,
    &QUERIES_UNSUPPORTED,
    &QUERY,
    &VALUE,
    &GET,
    &SAVE,
    &SAVE_EMPTY_KEY,
    &SAVE_ETAG_MISMATCH,
    &SAVE_ETAG_INVALID,
    &DELETE,
    &DELETE_ETAG_MISMATCH,
    &DELETE_ETAG_INVALID,
    &BULK_GET,
    &BULK_DELETE,
    &BULK_DELETE_ETAG_MISMATCH,
    &BULK_DELETE_ETAG_INVALID,
    &TRANSACTION,
    &UNSUPPORTED_OPERATION,
];

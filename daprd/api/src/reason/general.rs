//! Reasons that any block may give.

use tonic::Code;

use super::Reason;

const CATEGORY: &str = "common";

pub static BAD_REQUEST: Reason =
    Reason::plain("ERR_BAD_REQUEST", 400, Code::InvalidArgument, CATEGORY);
pub static UNIMPLEMENTED: Reason =
    Reason::plain("ERR_API_UNIMPLEMENTED", 501, Code::Unimplemented, CATEGORY);
pub static BODY_READ: Reason = Reason::plain("ERR_BODY_READ", 400, Code::InvalidArgument, CATEGORY);
pub static BODY_TOO_LARGE: Reason =
    Reason::plain("ERR_BODY_READ", 413, Code::ResourceExhausted, CATEGORY);
pub static MALFORMED_REQUEST: Reason = Reason::plain(
    "ERR_MALFORMED_REQUEST",
    400,
    Code::InvalidArgument,
    CATEGORY,
);
pub static MALFORMED_RESPONSE: Reason =
    Reason::plain("ERR_MALFORMED_RESPONSE", 500, Code::Internal, CATEGORY);
pub static INTERNAL: Reason = Reason::plain("ERR_INTERNAL", 500, Code::Internal, CATEGORY);
pub static NO_APP_CHANNEL: Reason =
    Reason::plain("ERR_APP_CHANNEL_NIL", 500, Code::Internal, CATEGORY);
pub static UNKNOWN: Reason = Reason::plain("ERROR", 500, Code::Unknown, CATEGORY);

pub static ALL: &[&Reason] = &[
    &BAD_REQUEST,
    &UNIMPLEMENTED,
    &BODY_READ,
    &BODY_TOO_LARGE,
    &MALFORMED_REQUEST,
    &MALFORMED_RESPONSE,
    &INTERNAL,
    &NO_APP_CHANNEL,
    &UNKNOWN,
];

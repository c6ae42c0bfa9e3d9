//! Reasons of the actors block.

use tonic::Code;

use super::Reason;

const CATEGORY: &str = "actor";

pub static NO_PLACEMENT: Reason =
    Reason::plain("ERR_ACTOR_NO_PLACEMENT", 400, Code::Unavailable, CATEGORY);
pub static TYPE_RESERVED: Reason = Reason::plain(
    "ERR_ACTOR_TYPE_RESERVED",
    403,
    Code::PermissionDenied,
    CATEGORY,
);

pub static ALL: &[&Reason] = &[&NO_PLACEMENT, &TYPE_RESERVED];

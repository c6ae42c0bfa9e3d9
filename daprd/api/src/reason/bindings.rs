//! Reasons of the bindings block.

use tonic::Code;

use super::Reason;

pub static INVOKE: Reason =
    Reason::plain("ERR_INVOKE_OUTPUT_BINDING", 500, Code::Internal, "binding");

pub static ALL: &[&Reason] = &[&INVOKE];

//! The crate from outside.

mod api_md;

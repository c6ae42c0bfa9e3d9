//! One suite per component kind, run by every family.

//! The chores as functions, so that tests can run them too.

pub mod bench;
pub mod generate;
pub mod images;
pub mod programs;
pub mod test;
pub mod tidy;
pub mod tree;

//! The foundation against an API server that misbehaves.

mod deadlines;
mod readers;
mod registrations;

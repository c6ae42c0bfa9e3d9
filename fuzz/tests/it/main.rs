//! Readers of outside bytes: none may panic, hang, or break what it promises, whatever it is given. A test is a target; its
//! seeds stand in `corpus`, in the folder of its name.

mod access_list;
mod identities;
mod injection;
mod scheduler;
mod sidecar;
mod texts;
mod trace;

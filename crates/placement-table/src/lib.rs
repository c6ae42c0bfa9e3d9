//! Which host owns an actor: the consistent hash ring that every sidecar computes from the tables of placement (contract 7.4).

#![deny(missing_docs)]

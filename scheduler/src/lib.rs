//! scheduler: keeps jobs and reminders, and fires each at its time on one of the sidecars that take it (contract 8).

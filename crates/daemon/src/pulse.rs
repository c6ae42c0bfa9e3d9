//! A timer that is always due sooner than the deadlines of calls.
//!
//! Tokio wakes its I/O driver whenever a timer is registered that is due before all others: a write to an eventfd, and
//! maybe a turn of epoll on another thread. The deadline around each call is such a timer wherever nothing else is due
//! within seconds. Behind a pulse it is one more entry of a wheel: seven system calls of a read from Redis are six.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Deadlines of calls are seconds; a wakeup a second is below what an idle program does anyway.
const PERIOD: Duration = Duration::from_secs(1);

/// Beats until the end of the program.
pub async fn beat(end: CancellationToken) {
    let mut beats = tokio::time::interval(PERIOD);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while end.run_until_cancelled(beats.tick()).await.is_some() {}
}

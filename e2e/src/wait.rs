//! Waiting for a condition with a deadline; nothing in the suites waits for a fixed time.

use std::fs::File;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Long enough for a loaded machine, short enough to notice a hang.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Pause between two looks.
const POLL: Duration = Duration::from_millis(10);

/// Looks until `probe` answers `Some`, and panics with `what` after `deadline`.
pub async fn until<T, F, Fut>(what: &str, deadline: Duration, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let end = Instant::now() + deadline;
    loop {
        // The probe itself may hang, on a socket for instance.
        match tokio::time::timeout_at(end, probe()).await {
            Ok(Some(value)) => return value,
            Ok(None) if Instant::now() < end => tokio::time::sleep(POLL).await,
            _ => panic!("waited {deadline:?} for {what}"),
        }
    }
}

/// Looks until `probe` answers `true`, and panics with `what` after `deadline`.
pub async fn eventually<F, Fut>(what: &str, deadline: Duration, mut probe: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    until(what, deadline, || {
        let look = probe();
        async move { look.await.then_some(()) }
    })
    .await;
}

/// Panics with `what` if `work` is not done by `deadline`.
pub async fn within<T>(what: &str, deadline: Duration, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(deadline, work).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {deadline:?}"),
    }
}

/// Waits for the turn of a test whose sidecars find each other: all sidecars of a machine hear each other, so two such tests
/// with the same app ids would meet, also those of two runs of the suite. Held until the test ends.
pub async fn alone() -> Turn {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let process = TURN.lock().await;
    let path = std::env::temp_dir().join("dapr-e2e-alone");
    let file = File::options().create(true).append(true).open(path);
    let machine = file.expect("the temporary folder is writable");
    eventually("the other run of the suite", TURN_DEADLINE, || async {
        machine.try_lock().is_ok()
    })
    .await;
    Turn {
        _process: process,
        _machine: machine,
    }
}

/// A turn of [`alone`].
pub struct Turn {
    _process: tokio::sync::MutexGuard<'static, ()>,
    // The system takes the lock back when the file is closed, be it by a test that was killed.
    _machine: File,
}

/// Longest wait for the tests of other runs.
const TURN_DEADLINE: Duration = Duration::from_secs(120);

//! What a guest logs, and that a failure names the component.

use component_conformance::log::Log;
use tracing::Level;

use super::*;

/// The lines of the guest's component, while it answers a request.
async fn logged(level: Level, module: &[u8]) -> Vec<String> {
    let (log, _guard) = Log::keep(level);
    answered(module).await;
    log.lines()
        .into_iter()
        .filter(|line| line.contains("guest"))
        .collect()
}

/// Logs at each level that is on, and at one that there is not.
fn logging() -> Vec<u8> {
    let levels = ["-1", "0", "1", "2", "3"].map(|level| {
        format!(
            "(if (call $log_enabled (i32.const {level}))
               (then (call $log (i32.const {level}) (i32.const 100) (i32.const 4))))"
        )
    });
    on_request(&format!(
        r#"{} (call $log (i32.const 3) (i32.const 100) (i32.const 4)) (i64.const 1)) (data (i32.const 100) "a\nb\1b""#,
        levels.concat()
    ))
}

#[tokio::test]
async fn a_guest_logs_at_the_levels_that_are_on() {
    let lines = |levels: &[&str]| -> Vec<String> {
        let line = |level: &&str| format!("{level} wasm component guest: a b ");
        levels.iter().map(line).collect()
    };
    let told = logged(Level::DEBUG, &logging()).await;
    assert_eq!(told, lines(&["DEBUG", "INFO", "WARN", "ERROR"]));
    let told = logged(Level::WARN, &logging()).await;
    assert_eq!(told, lines(&["WARN", "ERROR"]));
}

#[tokio::test]
async fn a_failure_names_the_component() {
    let told = logged(Level::WARN, &on_request("unreachable")).await;
    let [line] = &*told else { panic!("{told:?}") };
    assert!(line.starts_with("ERROR wasm component guest: "), "{line}");
    assert!(line.contains("unreachable"), "{line}");
}

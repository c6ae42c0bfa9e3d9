//! What a guest has of WASI.

use super::*;

const IMPORTS: &str = r#"(module
  (import "http_handler" "write_body" (func $write (param i32 i32 i32)))
  (import "http_handler" "set_status_code" (func $set_status (param i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "handle_response") (param i32 i32))
"#;

fn guest(does: &str) -> Vec<u8> {
    let text =
        format!(r#"{IMPORTS} (func (export "handle_request") (result i64) {does} (i64.const 0)))"#);
    wat::parse_str(text).unwrap()
}

/// The number that a function gives, as the status beyond 200.
async fn number(call: &str) -> u16 {
    answered(&guest(&format!(
        "(call $set_status (i32.add (i32.const 200) {call}))"
    )))
    .await
    .0 - 200
}

#[tokio::test]
async fn there_are_no_arguments_no_environment_and_no_files() {
    let counts = "(i32.add (i32.load (i32.const 8)) (i32.load (i32.const 12)))";
    for list in ["$args", "$environ"] {
        let call = format!(
            "(i32.store (i32.const 8) (i32.const 9)) (i32.store (i32.const 12) (i32.const 9))
             (call $set_status (i32.add (i32.const 200) (i32.add (call {list} (i32.const 8) (i32.const 12)) {counts})))"
        );
        assert_eq!(answered(&guest(&call)).await.0, 200, "{list}");
    }
    assert_eq!(
        number("(call $prestat (i32.const 3) (i32.const 8))").await,
        8
    );
    let open = "(call $open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 0)
                  (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 16))";
    assert_eq!(number(open).await, 8);
}

#[tokio::test]
async fn output_is_taken() {
    let write = |file: u32| {
        format!(
            "(i32.store (i32.const 8) (i32.const 100)) (i32.store (i32.const 12) (i32.const 70000))
             (i32.store (i32.const 12) (i32.const 60000))
             (call $set_status (i32.add (i32.const 200)
               (call $fd_write (i32.const {file}) (i32.const 8) (i32.const 1) (i32.const 16))))
             (if (i32.ne (i32.load (i32.const 16)) (i32.const 60000)) (then unreachable))"
        )
    };
    for file in [1, 2] {
        assert_eq!(answered(&guest(&write(file))).await.0, 200);
    }
    assert_eq!(
        number("(call $fd_write (i32.const 3) (i32.const 8) (i32.const 1) (i32.const 16))").await,
        8
    );
}

/// Answers with time and chance.
fn sensing() -> Vec<u8> {
    guest(
        "(drop (call $time (i32.const 1) (i64.const 0) (i32.const 100)))
         (drop (call $random (i32.const 108) (i32.const 8)))
         (drop (call $time (i32.const 0) (i64.const 0) (i32.const 116)))
         (call $write (i32.const 1) (i32.const 100) (i32.const 24))",
    )
}

/// On one thread: others have their turn while the host makes what the guest asks for.
#[tokio::test]
async fn many_random_bytes_do_not_hold_the_thread() {
    let random = guest(
        "(drop (memory.grow (i32.const 10)))
         (call $set_status (i32.add (i32.const 200) (call $random (i32.const 8) (i32.const 655000))))
         (call $write (i32.const 1) (i32.const 655000) (i32.const 8))",
    );
    let middleware = opened(&random).await;
    let turns = std::cell::Cell::new(0);
    let others = async {
        loop {
            turns.set(turns.get() + 1);
            tokio::task::yield_now().await;
        }
    };
    let answer = tokio::select! {
        biased;
        answer = ask(&middleware, post("")) => answer,
        () = others => unreachable!(),
    };
    assert_eq!(answer.status(), 200);
    let body = body::read(answer.into_body(), 100).await.unwrap();
    assert_ne!(body, vec![0; 8], "the last bytes as well");
    assert!(turns.get() >= 10, "{}", turns.get());
}

#[tokio::test]
async fn random_bytes_take_fuel() {
    let random = guest(
        "(drop (memory.grow (i32.const 100)))
         (drop (call $random (i32.const 0) (i32.const 6000000)))",
    );
    for (fuel, status) in [("3000000", 500), ("50000000", 200)] {
        let middleware = opened_with(&random, &[("maxFuel", fuel)]).await.unwrap();
        assert_eq!(ask(&middleware, post("")).await.status(), status, "{fuel}");
    }
}

async fn sensed(strict: &str) -> (u64, u64, u64) {
    let middleware = opened_with(&sensing(), &[("strictSandbox", strict)])
        .await
        .unwrap();
    let body = ask(&middleware, post("")).await.into_body();
    let bytes = body::read(body, 100).await.unwrap();
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    (number(0), number(8), number(16))
}

#[tokio::test]
async fn time_and_chance_are_real_unless_the_sandbox_is_strict() {
    let (one, two) = (sensed("true").await, sensed("true").await);
    assert_eq!((one.0, one.1), (two.0, two.1));
    assert_eq!((one.0, one.2 % 1_000_000_000), (1_000_000, 1_000_000));
    let (one, two) = (sensed("false").await, sensed("false").await);
    assert_ne!(one.1, two.1);
    let since = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_nanos() as u64;
    assert!(since - one.2 < 3_600_000_000_000, "it is today");
}

/// Sleeps so many milliseconds.
fn sleeping(milliseconds: u64) -> Vec<u8> {
    let nanoseconds = milliseconds * 1_000_000;
    guest(&format!(
        "(i64.store (i32.const 200) (i64.const 5)) (i32.store (i32.const 216) (i32.const 1))
         (i64.store (i32.const 224) (i64.const {nanoseconds}))
         (call $set_status (i32.add (i32.const 200)
           (call $poll (i32.const 200) (i32.const 300) (i32.const 1) (i32.const 400))))
         (if (i32.ne (i32.load (i32.const 400)) (i32.const 1)) (then unreachable))
         (if (i64.ne (i64.load (i32.const 300)) (i64.const 5)) (then unreachable))"
    ))
}

#[tokio::test(start_paused = true)]
async fn a_guest_sleeps_without_holding_a_thread_but_not_for_long() {
    let began = tokio::time::Instant::now();
    assert_eq!(answered(&sleeping(3000)).await.0, 200);
    assert_eq!(began.elapsed().as_millis() / 100, 30);
    assert_eq!(answered(&sleeping(11_000)).await.0, 500);
    let strict = opened_with(&sleeping(11_000), &[("strictSandbox", "true")])
        .await
        .unwrap();
    assert_eq!(ask(&strict, post("")).await.status(), 200);
}

#[tokio::test]
async fn an_end_is_none_of_the_sidecars() {
    assert_eq!(answered(&guest("(call $exit (i32.const 0))")).await.0, 500);
    let starting = |code: u32| {
        let text = format!(
            r#"{IMPORTS} (func (export "_start") (call $exit (i32.const {code})))
               (func (export "handle_request") (result i64) (i64.const 1)))"#
        );
        wat::parse_str(text).unwrap()
    };
    assert_eq!(
        answered(&starting(0)).await.0,
        201,
        "a program that has begun"
    );
    let error = opened_with(&starting(3), &[]).await.err().unwrap();
    let told = component::error::chain(&error);
    assert!(
        told.ends_with("does not start: the guest has ended with code 3"),
        "{told}"
    );
}

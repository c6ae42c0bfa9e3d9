//! What a guest may use, and that it ends where it wants more.

use super::*;

const ENDLESS: &str = "(loop $for_ever (br $for_ever)) (i64.const 1)";

#[tokio::test]
async fn a_guest_without_an_end_is_stopped() {
    let middleware = opened_with(&on_request(ENDLESS), &[("maxFuel", "3000000")])
        .await
        .unwrap();
    assert_eq!(ask(&middleware, post("")).await.status(), 500);
    assert_eq!(
        ask(&middleware, post("")).await.status(),
        500,
        "an instance anew"
    );
    let late = on_response(0, "(loop $for_ever (br $for_ever))");
    let middleware = opened_with(&late, &[("maxFuel", "3000000")]).await.unwrap();
    assert_eq!(ask(&middleware, post("")).await.status(), 500);
}

/// A thousand calls of the host are few instructions of the guest.
#[tokio::test]
async fn calls_of_the_host_are_not_free() {
    let asking = on_request(
        "(local $left i32) (local.set $left (i32.const 1000))
         (loop $more
           (drop (call $names (i32.const 0) (i32.const 100) (i32.const 900)))
           (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
         (i64.const 1)",
    );
    for (fuel, status) in [("100000", 500), ("1000000", 201)] {
        let middleware = opened_with(&asking, &[("maxFuel", fuel)]).await.unwrap();
        assert_eq!(ask(&middleware, post("")).await.status(), status);
    }
}

/// One call of the host may be for more than a slice of fuel.
#[tokio::test]
async fn what_the_host_fills_is_not_free() {
    let filling = on_request(
        "(drop (memory.grow (i32.const 900)))
         (drop (call $read (i32.const 0) (i32.const 0) (i32.const 58982400)))
         (i64.const 1)",
    );
    for (fuel, status) in [("5000000", 500), ("20000000", 201)] {
        let middleware = opened_with(&filling, &[("maxFuel", fuel)]).await.unwrap();
        assert_eq!(ask(&middleware, post("")).await.status(), status, "{fuel}");
    }
}

/// On one thread: others have their turn while a guest runs.
#[tokio::test]
async fn a_guest_does_not_hold_the_thread() {
    let middleware = opened_with(&on_request(ENDLESS), &[("maxFuel", "6000000")])
        .await
        .unwrap();
    let runs = ask(&middleware, post(""));
    let turns = async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = runs => panic!("it has run at a stretch"),
        () = turns => {}
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_frees_its_instance() {
    let fields = [("maxFuel", "10000000000"), ("maxInstances", "1")];
    let odd = module(
        r#"(func (export "handle_request") (result i64)
             (if (i32.eq (call $get_method (i32.const 100) (i32.const 9)) (i32.const 3))
               (then (loop $for_ever (br $for_ever)))) (i64.const 1))
           (func (export "handle_response") (param i32 i32))"#,
    );
    let middleware = opened_with(&odd, &fields).await.unwrap();
    let get = Request::get("/").body(body::empty()).unwrap();
    tokio::select! {
        biased;
        _ = ask(&middleware, get) => panic!("it has no end"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(ask(&middleware, post("")).await.status(), 201);
}

#[tokio::test]
async fn memory_does_not_grow_beyond_its_bound() {
    let growing = on_request(
        "(call $set_status (i32.add (i32.const 201)
           (memory.grow (i32.const 31)))) (i64.const 0)",
    );
    let of = |memory: &'static str| {
        let growing = &growing;
        async move {
            let middleware = opened_with(growing, &[("maxMemory", memory)])
                .await
                .unwrap();
            ask(&middleware, post("")).await.status().as_u16()
        }
    };
    assert_eq!(of("2Mi").await, 202, "there was one page");
    assert_eq!(of("1Mi").await, 200, "it is told no");
    let error = opened_with(&growing, &[("maxMemory", "1Ki")])
        .await
        .err()
        .unwrap();
    assert!(
        component::error::chain(&error).contains("does not start"),
        "{error}"
    );
}

#[tokio::test]
async fn a_trap_is_an_answer() {
    for does in [
        "unreachable",
        "(i64.div_u (i64.const 1) (i64.const 0))",
        "(i64.load (i32.const -1))",
        "(drop (i32.const 0)) (return (call $deep))) (func $deep (result i64) (call $deep)",
    ] {
        assert_eq!(
            answered(&on_request(does)).await,
            (500, "Internal Server Error".to_owned()),
            "{does}"
        );
    }
}

#[tokio::test]
async fn what_is_written_has_an_end() {
    for does in [
        "(call $write (i32.const 1) (i32.const 0) (i32.const 60000))",
        "(call $add_header (i32.const 1) (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 0))",
        "(call $add_header (i32.const 3) (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 0))",
    ] {
        let writing = on_request(&format!(
            "(loop $for_ever {does} (br $for_ever)) (i64.const 0)"
        ));
        let fields = [("maxBodySize", "1Mi")];
        let middleware = opened_with(&writing, &fields).await.unwrap();
        assert_eq!(ask(&middleware, post("")).await.status(), 500, "{does}");
    }
}

#[tokio::test]
async fn a_guest_may_be_large() {
    let never = "(drop (i32.const 0))".repeat(100_000);
    let large = on_request(&format!(
        "(if (i32.load (i32.const 5000)) (then {never})) (i64.const 1)"
    ));
    let middleware = opened_with(&large, &[("maxFuel", "1000")]).await.unwrap();
    assert_eq!(ask(&middleware, post("")).await.status(), 201);
}

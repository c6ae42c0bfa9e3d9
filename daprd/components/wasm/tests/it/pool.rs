//! Instances are used again, and there are only so many.

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::*;

/// Answers how often this instance was asked before, and hands on what is no POST.
fn counting() -> Vec<u8> {
    module(
        r#"(global $count (mut i32) (i32.const 200))
           (func (export "handle_request") (result i64)
             (call $set_status (global.get $count))
             (global.set $count (i32.add (global.get $count) (i32.const 1)))
             (if (i32.eq (global.get $count) (i32.const 205)) (then unreachable))
             (i64.extend_i32_u (i32.ne (call $get_method (i32.const 100) (i32.const 9)) (i32.const 4))))
           (func (export "handle_response") (param i32 i32))"#,
    )
}

#[tokio::test]
async fn what_a_guest_keeps_outlives_requests_but_not_a_trap() {
    let middleware = opened(&counting()).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(ask(&middleware, post("")).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 201, 202, 203, 500, 200]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_nobody_needs_goes() {
    let middleware = opened(&counting()).await;
    for (pause, status) in [(0, 200), (20, 201), (120, 200)] {
        tokio::time::sleep(std::time::Duration::from_secs(pause)).await;
        assert_eq!(ask(&middleware, post("")).await.status(), status);
    }
}

/// Answers when it is let.
struct Slow(Semaphore);

#[async_trait]
impl Endpoint for Slow {
    async fn call(&self, _: Request<Body>) -> Response<Body> {
        let _ = self.0.acquire().await;
        Response::new(body::empty())
    }
}

/// An app that calls back through the same middleware.
struct Back(Mutex<Option<Arc<dyn HttpMiddleware>>>);

#[async_trait]
impl Endpoint for Back {
    async fn call(&self, _: Request<Body>) -> Response<Body> {
        let middleware = self.0.lock().take();
        match middleware {
            Some(middleware) => {
                let get = Request::get("/").body(body::empty()).unwrap();
                Next::new(&[middleware], self).run(get).await
            }
            None => Response::new(body::empty()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_back_needs_an_instance_more() {
    for (instances, busy) in [("1", true), ("2", false)] {
        let fields = [("maxInstances", instances)];
        let middleware = opened_with(&counting(), &fields).await.unwrap();
        let back = Back(Mutex::new(Some(Arc::clone(&middleware))));
        let get = Request::get("/").body(body::empty()).unwrap();
        let links = [middleware];
        let answer = Next::new(&links, &back).run(get).await;
        let (_, text) = said(answer).await;
        assert_eq!(text.contains("comes back"), busy, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_an_instance_but_not_for_ever() {
    let middleware = opened_with(&counting(), &[("maxInstances", "2")])
        .await
        .unwrap();
    let links = [Arc::clone(&middleware)];
    let slow = Slow(Semaphore::new(0));
    let get = || Request::get("/").body(body::empty()).unwrap();
    let held = || Next::new(&links, &slow).run(get());
    let late = async {
        let refused = said(ask(&middleware, post("")).await).await;
        slow.0.add_permits(2);
        (refused, ask(&middleware, post("")).await.status())
    };
    let (first, second, (refused, served)) = tokio::join!(held(), held(), late);
    assert_eq!(
        (first.status(), second.status()),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    assert_eq!(refused.0, 503);
    assert!(refused.1.contains("maxInstances"), "{}", refused.1);
    assert_eq!(served, 201, "one of the two, used again");
}

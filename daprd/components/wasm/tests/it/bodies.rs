//! Bodies of requests that a guest reads.

use bytes::Bytes;
use component::BoxError;
use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;

use super::*;

fn pieces(pieces: Vec<Result<&'static str, &'static str>>) -> Request<Body> {
    let pieces = pieces.into_iter().map(|piece| match piece {
        Ok(text) => Ok(Frame::data(Bytes::from_static(text.as_bytes()))),
        Err(error) => Err(BoxError::from(error)),
    });
    // Each is there only after somebody has waited for it.
    let slow = stream::iter(pieces).then(|piece| async {
        tokio::task::yield_now().await;
        piece
    });
    Request::post("/")
        .body(body::streamed(StreamBody::new(slow)))
        .unwrap()
}

/// Reads so many bytes at a time, as often as it says, and writes each piece and a mark.
fn reading(room: u32, times: u32, then: u32) -> Vec<u8> {
    on_request(&format!(
        "(local $told i64) (local $left i32) (local.set $left (i32.const {times}))
         (loop $more
           (local.set $told (call $read (i32.const 0) (i32.const 100) (i32.const {room})))
           (call $write (i32.const 1) (i32.const 100) (i32.wrap_i64 (local.get $told)))
           (i32.store8 (i32.const 90) (i32.add (i32.const 48)
             (i32.wrap_i64 (i64.shr_u (local.get $told) (i64.const 32)))))
           (call $write (i32.const 1) (i32.const 90) (i32.const 1))
           (local.set $left (i32.sub (local.get $left) (i32.const 1)))
           (br_if $more (local.get $left)))
         (i64.const {then})"
    ))
}

#[tokio::test]
async fn it_is_read_in_pieces_of_the_guests_size() {
    let middleware = opened(&reading(4, 3, 0)).await;
    let request = pieces(vec![Ok("ab"), Ok("cdefg"), Ok("h"), Ok("i")]);
    assert_eq!(
        said(ask(&middleware, request).await).await,
        (200, "abcd0efgh0i1".to_owned())
    );
    assert_eq!(
        said(ask(&middleware, post("")).await).await,
        (200, "111".to_owned())
    );
}

#[tokio::test]
async fn what_was_read_goes_on_whole() {
    for times in [1, 3] {
        let middleware = opened(&reading(4, times, 1)).await;
        let request = pieces(vec![Ok("ab"), Ok("cdefg"), Ok("h"), Ok("i")]);
        let (_, told) = said(ask(&middleware, request).await).await;
        assert!(told.ends_with("POST / abcdefghi"), "{told}");
    }
}

#[tokio::test]
async fn what_does_not_come_ends_the_call() {
    let small = [("maxBodySize", "10")];
    let middleware = opened_with(&reading(1000, 1, 1), &small).await.unwrap();
    let large = pieces(vec![Ok("0123456789"), Ok("0")]);
    assert_eq!(ask(&middleware, large).await.status(), 413);
    let broken = pieces(vec![Ok("01234"), Err("gone")]);
    assert_eq!(ask(&middleware, broken).await.status(), 400);
    assert_eq!(
        ask(&middleware, post("abc")).await.status(),
        201,
        "an instance anew"
    );
    let passing = opened_with(&on_request("(i64.const 1)"), &small)
        .await
        .unwrap();
    let large = pieces(vec![Ok("0123456789"), Ok("0")]);
    assert_eq!(
        ask(&passing, large).await.status(),
        201,
        "what nobody reads has no limit"
    );
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_in_time_ends_the_call() {
    let middleware = opened(&reading(1000, 1, 1)).await;
    let never = stream::pending::<Result<Frame<Bytes>, BoxError>>();
    let request = Request::post("/")
        .body(body::streamed(StreamBody::new(never)))
        .unwrap();
    assert_eq!(ask(&middleware, request).await.status(), 408);
}

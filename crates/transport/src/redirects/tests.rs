//! Redirects to here, there and nowhere.

use bytes::Bytes;
use http_body_util::Full;
use parking_lot::Mutex;

use super::*;

type Asking = Request<Full<Bytes>>;

/// What was sent when each answer redirects to the next place, and the last status.
async fn sent(
    first: Asking,
    elsewhere: Elsewhere,
    redirects: &[(u16, &str)],
) -> (Vec<Asking>, StatusCode) {
    let seen = Mutex::new(Vec::new());
    let answer = follow(first, elsewhere, |request| {
        let mut seen = seen.lock();
        let mut answer = Response::new(());
        if let Some((status, location)) = redirects.get(seen.len()) {
            *answer.status_mut() = StatusCode::from_u16(*status).unwrap();
            let location = location.parse().unwrap();
            answer.headers_mut().insert(header::LOCATION, location);
        }
        seen.push(request);
        async { Ok::<_, ()>(answer) }
    });
    let status = answer.await.unwrap().status();
    (seen.into_inner(), status)
}

fn asking(method: &str, body: &'static str) -> Asking {
    let request = Request::builder()
        .method(method)
        .uri("http://one:80/a/b?q")
        .header("x-secret", "s")
        .header("authorization", "t")
        .header("accept", "text/plain")
        .header("content-type", "text/plain");
    request.body(Full::from(body)).unwrap()
}

fn secrets(asked: &Asking) -> usize {
    let names = ["x-secret", "authorization"];
    let names = names
        .iter()
        .filter(|name| asked.headers().contains_key(**name));
    names.count()
}

#[tokio::test]
async fn the_same_origin_gets_all_and_another_one_nothing() {
    let places = [
        (302, "c", "http://one/a/c", 2),
        (302, "http://one/d", "http://one/d", 2),
        (302, "http://one:81/", "http://one:81/", 0),
        (302, "https://one/", "https://one/", 0),
        (302, "//sub.one/", "http://sub.one/", 0),
        (307, "http://two/e", "http://two/e", 0),
    ];
    for (status, location, uri, known) in places {
        let (seen, last) = sent(asking("GET", ""), Elsewhere::Bare, &[(status, location)]).await;
        assert_eq!(last, 200);
        let [_, second] = &*seen else {
            panic!("{location}")
        };
        assert_eq!(second.uri(), uri);
        assert_eq!(secrets(second), known, "{location}");
        assert_eq!(second.headers()["accept"], "text/plain");
    }
}

#[tokio::test]
async fn what_was_left_behind_does_not_come_back() {
    let round = [(302, "http://two/"), (302, "http://one/")];
    let (seen, _) = sent(asking("GET", ""), Elsewhere::Bare, &round).await;
    assert_eq!(seen.iter().map(secrets).collect::<Vec<_>>(), [2, 0, 0]);
}

#[tokio::test]
async fn who_shows_a_certificate_stays() {
    let round = [(302, "/c"), (302, "http://two/")];
    let (seen, last) = sent(asking("GET", ""), Elsewhere::Never, &round).await;
    assert_eq!((seen.len(), last.as_u16()), (2, 302));
}

#[tokio::test]
async fn a_body_is_sent_once() {
    for (status, requests) in [(301, 2), (302, 2), (303, 2), (307, 1), (308, 1)] {
        let (seen, _) = sent(asking("POST", "ping"), Elsewhere::Bare, &[(status, "/c")]).await;
        assert_eq!(seen.len(), requests, "{status}");
        if let Some(second) = seen.get(1) {
            assert_eq!(second.method(), "GET");
            assert!(!second.headers().contains_key("content-type"));
        }
    }
    let (seen, _) = sent(asking("DELETE", ""), Elsewhere::Bare, &[(308, "/c")]).await;
    assert_eq!(seen[1].method(), "DELETE");
    let (seen, _) = sent(asking("HEAD", ""), Elsewhere::Bare, &[(303, "/c")]).await;
    assert_eq!(seen[1].method(), "HEAD");
}

#[tokio::test]
async fn there_is_an_end() {
    let (seen, last) = sent(asking("GET", ""), Elsewhere::Bare, &[(302, "/c"); 20]).await;
    assert_eq!((seen.len(), last.as_u16()), (MOST_REDIRECTS + 1, 302));
    for nowhere in ["file:///etc/passwd", "http://", "ftp://two/"] {
        let (seen, last) = sent(asking("GET", ""), Elsewhere::Bare, &[(302, nowhere)]).await;
        assert_eq!((seen.len(), last.as_u16()), (1, 302), "{nowhere}");
    }
    let (seen, _) = sent(asking("GET", ""), Elsewhere::Bare, &[(304, "/c")]).await;
    assert_eq!(seen.len(), 1);
}

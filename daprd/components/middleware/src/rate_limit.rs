//! `middleware.http.ratelimit`: at most so many requests in a second, of one caller to one path.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::IpAddr,
    time::Duration,
};

use async_trait::async_trait;
use component::{
    Body, Component, Error, HttpMiddleware, Metadata, Result,
    middleware::{Caller, Next, answer},
};
use http::{HeaderValue, Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

component::metadata! {
    /// What the middleware is opened with.
    pub struct Settings {
        /// How many requests of one caller to one path may come in a second; as many may come at once.
        rate: f64 => "maxRequestsPerSecond", default(100.0);
    }
}

/// Longest pause between two requests.
const DAY: Duration = Duration::from_secs(86_400);

/// Most pairs of a caller and a path that are told apart; beyond, callers share one limit.
const MAX_PAIRS: usize = 16_384;

/// Who asks, and a hash of what for: paths are long, and callers choose them. Those that nothing is left to tell apart by are
/// `None`.
type Pair = Option<(Option<IpAddr>, u64)>;

/// Counts requests.
pub struct RateLimit {
    /// Between two requests, in the long run.
    pause: Duration,
    /// How far ahead of that requests may be.
    ahead: Duration,
    shown: HeaderValue,
    /// When each pair would be through with its requests if they had come evenly.
    pairs: Mutex<HashMap<Pair, Instant>>,
    hasher: RandomState,
}

impl RateLimit {
    /// Reads the metadata.
    ///
    /// # Errors
    /// Where the rate is none.
    pub fn open(metadata: &Metadata) -> Result<Self> {
        let Settings { rate } = Settings::read(metadata)?;
        let pause = Duration::try_from_secs_f64(1.0 / rate);
        let fits = |pause: &Duration| rate > 0.0 && !pause.is_zero() && *pause <= DAY;
        let pause = pause.ok().filter(fits);
        let Some(pause) = pause else {
            let problem =
                format!("{rate} is no rate: it has to be positive, and one in a day at least");
            return Err(Error::invalid_metadata("maxRequestsPerSecond", problem));
        };
        let at_once = rate.max(1.0).floor();
        let shown = HeaderValue::try_from(format!("{rate:.2}"));
        Ok(Self {
            pause,
            ahead: pause.mul_f64(at_once - 1.0),
            shown: shown.map_err(|error| Error::invalid_metadata("maxRequestsPerSecond", error))?,
            pairs: Mutex::default(),
            hasher: RandomState::new(),
        })
    }

    /// Q-middleware-readings: however a path is spelt, it is the same one.
    fn admits(&self, caller: Option<IpAddr>, path: &str, now: Instant) -> bool {
        let path = self.hasher.hash_one(values::path::canonical(path));
        let mut pair = Some((caller, path));
        let mut pairs = self.pairs.lock();
        if pairs.len() >= MAX_PAIRS && !pairs.contains_key(&pair) {
            // Whoever is through with its requests is as good as new.
            pairs.retain(|_, through| *through > now);
            if pairs.len() >= MAX_PAIRS {
                pair = None;
            }
        }
        let through = pairs.entry(pair).or_insert(now);
        let begin = (*through).max(now);
        if begin - now > self.ahead {
            return false;
        }
        *through = begin + self.pause;
        true
    }
}

impl Component for RateLimit {}

#[async_trait]
impl HttpMiddleware for RateLimit {
    async fn call(&self, request: Request<Body>, next: Next<'_>) -> Response<Body> {
        let caller = request.extensions().get::<Caller>().map(|caller| caller.0);
        let mut response = match self.admits(caller, request.uri().path(), Instant::now()) {
            true => next.run(request).await,
            false => answer::text(
                StatusCode::TOO_MANY_REQUESTS,
                "You have reached maximum request limit.",
            ),
        };
        let headers = response.headers_mut();
        headers.insert("x-rate-limit-limit", self.shown.clone());
        headers.insert("x-rate-limit-duration", HeaderValue::from_static("1"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(rate: &str) -> Result<RateLimit> {
        RateLimit::open(&Metadata::from_iter([("maxRequestsPerSecond", rate)]))
    }

    fn admitted(limit: &RateLimit, path: &str, now: Instant) -> usize {
        (0..100).filter(|_| limit.admits(None, path, now)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_come_through_at_once_and_so_many_a_second() {
        let limit = limit("10").unwrap();
        let now = Instant::now();
        assert_eq!(admitted(&limit, "/a", now), 10);
        assert_eq!(admitted(&limit, "/b", now), 10, "another path");
        assert_eq!(admitted(&limit, "/a", now + Duration::from_millis(300)), 3);
        assert_eq!(admitted(&limit, "/a", now + Duration::from_secs(60)), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn spellings_of_a_path_share_a_limit() {
        let limit = limit("2").unwrap();
        let now = Instant::now();
        let spelt = [
            "/a/b",
            "/a/b/",
            "//a/./b",
            "/%61/b",
            "/a/x/../b",
            "/%2561%2fb",
        ];
        let admitted = spelt.map(|path| limit.admits(None, path, now));
        assert_eq!(admitted, [true, true, false, false, false, false]);
        assert!(limit.admits(None, "/A/b", now), "another path");
        let other = IpAddr::from([127, 0, 0, 1]);
        assert!(limit.admits(Some(other), "/a/b", now), "another caller");
    }

    #[tokio::test(start_paused = true)]
    async fn less_than_one_a_second_is_a_rate() {
        let limit = limit("0.5").unwrap();
        let now = Instant::now();
        assert_eq!(admitted(&limit, "/a", now), 1);
        assert_eq!(admitted(&limit, "/a", now + Duration::from_secs(1)), 0);
        assert_eq!(admitted(&limit, "/a", now + Duration::from_secs(2)), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_to_what_is_told_apart() {
        let limit = limit("1").unwrap();
        let now = Instant::now();
        for path in 0..MAX_PAIRS {
            assert!(limit.admits(None, &path.to_string(), now));
        }
        assert!(limit.admits(None, "one more", now));
        assert!(!limit.admits(None, "yet another", now), "shares its limit");
        assert!(limit.admits(None, "later", now + Duration::from_secs(5)));
        assert_eq!(limit.pairs.lock().len(), 1);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for rate in ["0", "0.000001", "-1", "NaN", "inf", "1e300", "many"] {
            assert!(limit(rate).is_err(), "{rate}");
        }
    }
}

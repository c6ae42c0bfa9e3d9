//! How often certificates are asked for, where their life is shorter than clocks may differ.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use security::{CertificateSource, KeyKind, Security, Signed, SourceError};
use tokio_util::sync::CancellationToken;
use values::Clock;

use crate::authority::Authority;

/// The calendar follows the paused time of the test.
#[derive(Clone)]
struct Paused {
    began: tokio::time::Instant,
    at: Timestamp,
}

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        self.at + self.began.elapsed()
    }

    fn instant(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// Signs for ten minutes with a quarter of an hour between clocks, and notes when it was asked.
struct Short {
    authority: Authority,
    clock: Paused,
    asked: Arc<Mutex<Vec<Duration>>>,
}

#[async_trait::async_trait]
impl CertificateSource for Short {
    async fn sign(&self, request: &str) -> Result<Signed, SourceError> {
        let since = self.clock.began.elapsed();
        self.asked.lock().unwrap().push(since);
        let now = SystemTime::from(self.clock.now());
        let (before, after) = (Duration::from_secs(900), Duration::from_secs(600));
        let uris = ["spiffe://public/ns/default/app"];
        Ok(self
            .authority
            .sign_for(request, &uris, now - before, now + after))
    }
}

#[tokio::test(start_paused = true)]
async fn short_lives_with_a_long_skew_make_no_storm() {
    let clock = Paused {
        began: tokio::time::Instant::now(),
        at: Timestamp::now(),
    };
    let asked = Arc::new(Mutex::new(Vec::new()));
    let source = Short {
        authority: Authority::new(),
        clock: clock.clone(),
        asked: asked.clone(),
    };
    let (security, runner) = Security::from_source(Box::new(source), KeyKind::Ed25519);
    let shutdown = CancellationToken::new();
    let hour = async {
        security.ready().await.unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        shutdown.cancel();
    };
    let (ran, ()) = tokio::join!(runner.with_clock(clock).run(shutdown.clone()), hour);
    ran.unwrap();
    let asked = asked.lock().unwrap();
    assert!((12..=15).contains(&asked.len()), "{asked:?}");
    let pauses: Vec<_> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    for pause in &pauses {
        let seconds = pause.as_secs_f64();
        assert!((269.0..=301.0).contains(&seconds), "{pauses:?}");
    }
    assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
}

//! The task behind a `Security` handle: renews the certificate, follows the anchors.

use std::sync::Arc;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use values::{Clock, SystemClock};

use crate::anchors::Configured;
use crate::metrics::Metrics;
use crate::rotation::{Effect, Rotation};
use crate::svid::Request;
use crate::tls::Shared;
use crate::{CertificateSource, Error, KeyKind, Signed, Svid, TrustBundle};

/// Keeps certificate and anchors fresh; the program spawns [`Runner::run`].
pub struct Runner {
    shared: Arc<Shared>,
    source: Option<Box<dyn CertificateSource>>,
    configured: Configured,
    /// The configured anchors.
    own: TrustBundle,
    /// The anchors that came with the latest certificate.
    given: TrustBundle,
    key: KeyKind,
    metrics: Metrics,
    clock: Box<dyn Clock>,
}

enum Failure {
    Source(crate::SourceError),
    Certificate(Error),
}

impl Runner {
    pub(crate) fn new(
        shared: Arc<Shared>,
        source: Option<Box<dyn CertificateSource>>,
        configured: Configured,
        key: KeyKind,
        metrics: Metrics,
    ) -> Self {
        let own = TrustBundle::clone(&shared.bundle.borrow());
        Self {
            shared,
            source,
            configured,
            own,
            given: TrustBundle::default(),
            key,
            metrics,
            clock: Box::new(SystemClock),
        }
    }

    /// Reads the time elsewhere.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Runs until `shutdown`. Failed requests are repeated for ever, so this ends only then.
    ///
    /// # Errors
    /// None at present; the `Result` lets callers spawn it as a program part.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let _stopped = self.shared.stopped.clone().drop_guard();
        let Some(source) = self.source.take() else {
            shutdown.cancelled().await;
            return Ok(());
        };
        let mut rotation = Rotation::new();
        loop {
            let step = match rotation.next(self.clock.now()) {
                Effect::Renew => {
                    let renewal = request(source.as_ref(), self.key);
                    tokio::select! {
                        () = shutdown.cancelled() => return Ok(()),
                        outcome = renewal => Step::Answer(outcome),
                        bundle = self.configured.changed() => Step::Anchors(bundle),
                    }
                }
                Effect::Wait(pause) => tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    () = sleep(pause) => Step::Look,
                    () = self.shared.renew.notified() => Step::Force,
                    bundle = self.configured.changed() => Step::Anchors(bundle),
                },
            };
            match step {
                Step::Look => {}
                Step::Force => rotation.force(),
                Step::Anchors(bundle) => {
                    tracing::info!(
                        "trust anchors changed, {} in force",
                        bundle.certificates().len()
                    );
                    self.own = bundle;
                    self.publish_anchors();
                    // Sentry has probably changed its issuer too; and a request that waited for anchors can go on.
                    rotation.force();
                }
                Step::Answer(outcome) => self.answered(outcome, &mut rotation),
            }
        }
    }

    fn answered(&mut self, outcome: Result<(Request, Signed), Failure>, rotation: &mut Rotation) {
        let first = self.shared.svid.borrow().is_none();
        match outcome.and_then(|(request, signed)| {
            self.accept(request, &signed).map_err(Failure::Certificate)
        }) {
            Ok(svid) => {
                let (begin, end) = (svid.not_before(), svid.not_after());
                rotation.renewed(self.clock.now(), begin, end, fastrand::f64());
                self.metrics.succeeded(first);
                if first {
                    tracing::info!("the first workload certificate has arrived");
                }
                tracing::info!(
                    "workload certificate of {} until {}, renewal at {}",
                    svid.id(),
                    svid.not_after(),
                    rotation.due()
                );
                self.shared.svid.send_replace(Some(Arc::new(svid)));
            }
            Err(failure) => {
                rotation.failed(self.clock.now(), fastrand::f64());
                let (reason, error): (_, &dyn std::error::Error) = match &failure {
                    Failure::Source(error) => (error.reason(), error),
                    Failure::Certificate(error) => ("certificate", error),
                };
                self.metrics.failed(first, reason);
                tracing::error!(
                    error,
                    "no workload certificate yet, trying again at {}",
                    rotation.due()
                );
            }
        }
    }

    /// Anchors first: the new certificate may chain to a root that only this answer brings.
    fn accept(&mut self, request: Request, signed: &Signed) -> Result<Svid, Error> {
        let given = if signed.anchors.is_empty() {
            TrustBundle::default()
        } else {
            TrustBundle::from_pem(&signed.anchors)?
        };
        let svid = request.finish(signed, &self.own.union(&given), self.clock.now())?;
        self.given = given;
        self.publish_anchors();
        Ok(svid)
    }

    fn publish_anchors(&self) {
        let bundle = if self.own.is_empty() {
            self.given.clone()
        } else {
            self.own.union(&self.given)
        };
        self.shared.bundle.send_if_modified(|current| {
            let changed = **current != bundle;
            if changed {
                *current = Arc::new(bundle);
            }
            changed
        });
    }
}

enum Step {
    Look,
    Force,
    Anchors(TrustBundle),
    Answer(Result<(Request, Signed), Failure>),
}

async fn request(
    source: &dyn CertificateSource,
    key: KeyKind,
) -> Result<(Request, Signed), Failure> {
    let request = tokio::task::spawn_blocking(move || Request::new(key));
    let request = request.await.map_err(|error| Error::Svid {
        reason: error.to_string(),
    });
    let request = request
        .and_then(|request| request)
        .map_err(Failure::Certificate)?;
    let signed = source.sign(&request.pem).await.map_err(Failure::Source)?;
    Ok((request, signed))
}

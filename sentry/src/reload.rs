//! Follows the credentials: new ones are taken over in place, without a connection lost.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use security::Security;
use security::files::Changes;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::keeper::Keeper;
use crate::oidc::ServerCertificate;
use crate::upstream::Renewal;

/// Changes within this time of each other are one change: a set of files is written one by one.
const BATCH: Duration = Duration::from_secs(2);
/// The store is looked at this often even without a notice, and this soon again when folders cannot be watched.
const POLL: Duration = Duration::from_secs(300);
const POLL_BLIND: Duration = Duration::from_secs(10);

/// What has to follow the credentials.
pub struct Reload {
    pub keeper: Arc<Keeper>,
    pub security: Security,
    pub oidc: Option<Arc<ServerCertificate>>,
    /// Where the issuer comes from outside.
    pub renewal: Option<Renewal>,
}

impl Reload {
    /// Runs until shutdown.
    pub async fn run(self, watched: &[&Path], shutdown: CancellationToken) -> anyhow::Result<()> {
        // The store may be an API server that is not there any more: at the end nobody waits for its answer.
        shutdown.run_until_cancelled(self.follow(watched)).await;
        Ok(())
    }

    async fn follow(&self, watched: &[&Path]) {
        let mut changes = watch(watched);
        // What changed between loading and watching has given no notice.
        let mut due = self.once().await;
        loop {
            next(&mut changes, self.keeper.pause().min(due)).await;
            if changes.is_none() {
                changes = watch(watched);
            }
            due = self.once().await;
        }
    }

    /// Looks at everything, and says when an issuer from outside is due.
    async fn once(&self) -> Duration {
        let due = match &self.renewal {
            Some(renewal) => renewal.due(self.keeper.store()).await,
            None => Duration::MAX,
        };
        match self.keeper.reload().await {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!("new issuer credentials are in force");
                self.security.renew();
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(
                    error,
                    "the changed credentials cannot be used; the old ones stay in force"
                );
            }
        }
        if let Some(certificate) = &self.oidc
            && let Err(error) = certificate.reload()
        {
            tracing::error!(
                "the OIDC server's certificate cannot be used; the old one stays: {error:#}"
            );
        }
        due
    }
}

fn watch(watched: &[&Path]) -> Option<Changes> {
    match Changes::watch(watched.iter().copied(), BATCH) {
        Ok(changes) => Some(changes),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(
                error,
                "credentials are not watched, looking at them every {POLL_BLIND:?}"
            );
            None
        }
    }
}

async fn next(changes: &mut Option<Changes>, pause: Duration) {
    match changes {
        Some(changes) => {
            tokio::select! { () = changes.next() => {}, () = sleep(POLL.min(pause)) => {} }
        }
        None => sleep(POLL_BLIND.min(pause)).await,
    }
}

//! Telling people in time that certificates end, and what happens to them.

use std::sync::PoisonError;
use std::time::Duration;

use aws_lc_rs::digest;
use jiff::Timestamp;

use super::{Keeper, Options};
use crate::ca;
use crate::rotation::{self, Record, Step};
use crate::store::Credentials;

/// Days before the end at which it is said again.
const DAYS: [i64; 3] = [60, 30, 7];

/// What has been said: of which end, and how many days before it.
pub type Told = Option<(Timestamp, i64)>;

impl Keeper {
    /// Tells metric, log and Events when issuer and root end; called at least with each renewal of sentry's own certificate.
    pub async fn report_expiry(&self) {
        let current = self.current();
        let issuer = current.authority.not_after();
        let root = roots_end(&current.credentials).unwrap_or(issuer);
        self.options.metrics.expires(issuer, root);
        let at = issuer.min(root);
        let now = self.options.clock.now();
        let left = days_left(now, at);
        let Some(level) = DAYS.into_iter().rev().find(|days| left <= *days) else {
            return;
        };
        // An issuer from outside is replaced at half of its life: its end is news only where that has failed.
        let settings = &self.options.settings;
        let expected = settings.cert_manager_life / 3;
        let is_outside = settings.cert_manager.is_some() && issuer <= root;
        let remains = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        if is_outside && remains > expected {
            return;
        }
        let said = Some((at, level));
        if std::mem::replace(
            &mut *self.told.lock().unwrap_or_else(PoisonError::into_inner),
            said,
        ) == said
        {
            return;
        }
        let what = if issuer <= root { "issuer" } else { "root" };
        let next = self.options.what_happens(&current.credentials, now);
        let message = format!("the {what} certificate ends in {left} days, at {at}: {next}");
        match level {
            60 => tracing::warn!("{message}"),
            _ => tracing::error!("{message}"),
        }
        let name = format!("{what}-ends-{level}-{:x}", at.as_second());
        let store = &self.options.store;
        store
            .tell(&name, ("CertificateExpiry", &message), true)
            .await;
    }
}

impl Options {
    fn what_happens(&self, credentials: &Credentials, now: Timestamp) -> &'static str {
        if self.settings.cert_manager.is_some() {
            return "sentry asks cert-manager for another one, and the log says why there is none";
        }
        let plan = &self.settings.rotation;
        let Some(record) = Record::of(credentials) else {
            return "sentry has not made it and does not replace it, so put a new one there";
        };
        let Ok(view) = self.view(&record, &super::Seen::default()) else {
            return "it cannot be read";
        };
        if plan.root {
            return "sentry is replacing it; restart pods that still trust the old root alone";
        }
        if rotation::due(view.root_end, plan.root_life.min(plan.issuer_life), now) {
            return "start sentry with --root-rotation-enabled, or replace the root by hand";
        }
        match plan.issuer {
            true => "sentry replaces it",
            false => "start sentry with --issuer-rotation-enabled, or replace it by hand",
        }
    }

    /// Tells what a step has done.
    pub(super) async fn tell(&self, step: Step, credentials: &Credentials) {
        let (reason, message) = match step {
            Step::Wait(_) | Step::Note => return,
            Step::Issuer => (
                "IssuerReplaced",
                "a new issuer certificate under the same root",
            ),
            Step::Begin => (
                "RootDistributed",
                "a new root certificate is handed out beside the old one, which signs on",
            ),
            Step::Sign => ("RootSigns", "workloads get certificates under the new root"),
            Step::Own => (
                "RootInForce",
                "sentry shows a certificate under the new root",
            ),
            Step::Finish => (
                "RootRetired",
                "the old root certificate is not handed out any more; restart pods that trust it alone before it ends",
            ),
        };
        tracing::warn!("{message}");
        // Replicas that tell the same within a second tell it once, and of two issuers each is told.
        let chain = credentials.chain.as_deref().unwrap_or_default();
        let digest = hex::encode(&digest::digest(&digest::SHA256, chain).as_ref()[..4]);
        let at = self.clock.now().as_second();
        let name = format!("{}-{at:x}-{digest}", reason.to_lowercase());
        self.store.tell(&name, (reason, message), false).await;
    }
}

fn roots_end(credentials: &Credentials) -> Option<Timestamp> {
    let roots = ca::certificates(credentials.root.as_deref()?, "the trust anchors").ok()?;
    let ends = roots
        .iter()
        .filter_map(|root| Some(ca::validity(root).ok()?.1));
    // The last one counts: while there are two, the older one is on its way out.
    Timestamp::try_from(ends.max()?).ok()
}

fn days_left(now: Timestamp, at: Timestamp) -> i64 {
    at.duration_since(now).as_hours().div_euclid(24)
}

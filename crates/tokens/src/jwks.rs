//! A key set that stays fresh: fetched from a URL, read from a file, or given inline.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::keys::MAX_KEY_SET;
use crate::{Check, Claims, Error, KeySet};

/// Where keys come from and how often they are looked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://` or `https://` URL, path of a file, or the JSON itself, optionally in base64.
    pub location: String,
    /// The only CA to trust when fetching: PEM, or the path of a PEM file. None: the system's.
    pub ca_certificate: Option<String>,
    /// A URL is fetched at most this often. Default 10 minutes.
    pub min_refresh_interval: Duration,
    /// Limit of one fetch. Default 30 s.
    pub request_timeout: Duration,
}

impl Options {
    /// Default intervals.
    #[must_use]
    pub fn new(location: impl Into<String>) -> Self {
        Self {
            location: location.into(),
            ca_certificate: None,
            min_refresh_interval: Duration::from_secs(600),
            request_timeout: Duration::from_secs(30),
        }
    }
}

/// How often the file is looked at.
const FILE_POLL: Duration = Duration::from_secs(1);
/// A check waits this long for a fetch that an unknown key id has asked for.
const FETCH_WAIT: Duration = Duration::from_secs(5);

/// Handle on a key set. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Jwks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    keys: ArcSwapOption<KeySet>,
    /// Counts loads; 0 until the first one.
    loads: watch::Sender<u64>,
    /// Someone met an unknown key.
    wanted: Notify,
    refreshable: bool,
}

/// Loads and refreshes; the program spawns [`Runner::run`].
#[derive(Debug)]
pub struct Runner {
    shared: Arc<Shared>,
    source: Source,
    min_refresh_interval: Duration,
    request_timeout: Duration,
}

#[derive(Debug)]
enum Source {
    Url {
        url: String,
        client: reqwest::Client,
    },
    File {
        path: PathBuf,
        seen: Option<(SystemTime, u64)>,
    },
    Inline(KeySet),
}

impl Jwks {
    /// Builds the handle and its runner; nothing is fetched yet.
    ///
    /// # Errors
    /// [`Error::Location`], [`Error::Ca`], or [`Error::KeySet`] for options that can never work.
    pub fn new(options: Options) -> Result<(Self, Runner), Error> {
        let source = Source::open(&options)?;
        let shared = Arc::new(Shared {
            keys: ArcSwapOption::empty(),
            loads: watch::Sender::new(0),
            wanted: Notify::new(),
            refreshable: matches!(source, Source::Url { .. }),
        });
        let runner = Runner {
            shared: shared.clone(),
            source,
            min_refresh_interval: options.min_refresh_interval,
            request_timeout: options.request_timeout,
        };
        Ok((Self(shared), runner))
    }

    /// Waits for the first load. For ever, if the runner ended without one.
    pub async fn ready(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.0.loads.subscribe().wait_for(|loads| *loads > 0).await;
    }

    /// Checks a token at `now`; an unknown key makes a URL be fetched again, if that is not too soon.
    ///
    /// # Errors
    /// [`Error::NotReady`], or what [`KeySet::verify`] says.
    pub async fn verify(
        &self,
        token: &str,
        check: &Check,
        now: Timestamp,
    ) -> Result<Claims, Error> {
        let mut loads = self.0.loads.subscribe();
        let keys = self.0.keys.load_full().ok_or(Error::NotReady)?;
        match keys.verify(token, check, now) {
            Err(Error::UnknownKey) if self.0.refreshable => {}
            done => return done,
        }
        loads.mark_unchanged();
        self.0.wanted.notify_one();
        if timeout(FETCH_WAIT, loads.changed()).await.is_err() {
            return Err(Error::UnknownKey);
        }
        self.0
            .keys
            .load_full()
            .ok_or(Error::NotReady)?
            .verify(token, check, now)
    }
}

impl Runner {
    /// Loads the keys, then keeps them fresh until `shutdown`. Later failures are logged and keep the old keys.
    ///
    /// # Errors
    /// When the first load fails: a validator without keys is of no use, and the operator should hear about it.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            first = self.load() => first?,
        }
        let mut loaded = Instant::now();
        loop {
            let pause = match self.source {
                Source::Url { .. } => self.min_refresh_interval,
                Source::File { .. } => FILE_POLL,
                Source::Inline(_) => Duration::MAX,
            };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = sleep(pause) => {}
                () = self.shared.wanted.notified() => {
                    if loaded.elapsed() < self.min_refresh_interval {
                        // Too soon: those who wait get the answer from the keys there are.
                        self.shared.loads.send_modify(|loads| *loads += 1);
                        continue;
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                again = self.load() => if let Err(error) = again {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the key set was not refreshed");
                    self.shared.loads.send_modify(|loads| *loads += 1);
                },
            }
            loaded = Instant::now();
        }
    }

    async fn load(&mut self) -> Result<(), Error> {
        let keys = match &mut self.source {
            Source::Inline(keys) => Some(keys.clone()),
            Source::File { path, seen } => read(path, seen)?,
            Source::Url { url, client } => Some(fetch(client, url, self.request_timeout).await?),
        };
        if let Some(keys) = keys {
            self.shared.keys.store(Some(Arc::new(keys)));
            self.shared.loads.send_modify(|loads| *loads += 1);
        }
        Ok(())
    }
}

impl Source {
    fn open(options: &Options) -> Result<Self, Error> {
        let location = options.location.as_str();
        if location.starts_with("http://") || location.starts_with("https://") {
            if location.starts_with("http://") {
                tracing::warn!(
                    "the key set comes over plain HTTP: whoever is in between can forge tokens"
                );
            }
            return Ok(Self::Url {
                url: location.to_owned(),
                client: client(options)?,
            });
        }
        if location.len() < MAX_PATH && Path::new(location).is_file() {
            return Ok(Self::File {
                path: location.into(),
                seen: None,
            });
        }
        let decoded =
            base64::engine::general_purpose::STANDARD_NO_PAD.decode(location.trim_end_matches('='));
        let json = decoded.unwrap_or_else(|_| location.as_bytes().to_vec());
        match KeySet::from_json(&json) {
            Ok(keys) => Ok(Self::Inline(keys)),
            Err(error) if location.trim_start().starts_with('{') => Err(error),
            Err(_) => Err(Error::Location),
        }
    }
}

/// Longer text is no path, and need not be tried as one.
const MAX_PATH: usize = 4096;

fn client(options: &Options) -> Result<reqwest::Client, Error> {
    let ca = |reason: String| Error::Ca { reason };
    let mut client = reqwest::Client::builder()
        .timeout(options.request_timeout)
        .tcp_nodelay(true)
        .tls_version_min(reqwest::tls::Version::TLS_1_2);
    if let Some(certificate) = options
        .ca_certificate
        .as_deref()
        .filter(|text| !text.is_empty())
    {
        let pem = if certificate.contains("-----BEGIN") {
            certificate.as_bytes().to_vec()
        } else {
            std::fs::read(certificate).map_err(|error| ca(format!("{certificate}: {error}")))?
        };
        let certificates =
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| ca(error.to_string()))?;
        if certificates.is_empty() {
            return Err(ca("no certificate in it".into()));
        }
        client = client.tls_certs_only(certificates);
    }
    client.build().map_err(|error| ca(error.to_string()))
}

/// Reads the file if it has changed; it is small and local, so in place.
fn read(path: &Path, seen: &mut Option<(SystemTime, u64)>) -> Result<Option<KeySet>, Error> {
    let failed = |source| Error::File {
        path: path.display().to_string(),
        source,
    };
    let found = std::fs::metadata(path).map_err(failed)?;
    let now = (found.modified().map_err(failed)?, found.len());
    if *seen == Some(now) {
        return Ok(None);
    }
    *seen = Some(now);
    if found.len() > MAX_KEY_SET as u64 {
        return Err(Error::KeySet {
            reason: "the file is larger than 1 MiB".into(),
        });
    }
    KeySet::from_json(&std::fs::read(path).map_err(failed)?).map(Some)
}

async fn fetch(client: &reqwest::Client, url: &str, limit: Duration) -> Result<KeySet, Error> {
    let failed = |source| Error::Fetch {
        url: url.to_owned(),
        source,
    };
    let answer = |reason: String| Error::Answer {
        url: url.to_owned(),
        reason,
    };
    let body = async {
        let mut response = client.get(url).send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(answer(format!("status {}", response.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_KEY_SET {
                return Err(answer("the answer is larger than 1 MiB".into()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    let body = timeout(limit, body)
        .await
        .map_err(|_| answer(format!("no answer within {limit:?}")))??;
    KeySet::from_json(&body)
}

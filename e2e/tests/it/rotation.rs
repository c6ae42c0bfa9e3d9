//! A new root for a mesh that works, with no sidecar restarted (docs/certificates.md). Time in a stage is what sentry has
//! written down that it saw, so the test writes a larger number there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use e2e::app::Answer;
use e2e::mesh::{Identity, Tls};
use e2e::wait::{DEADLINE, eventually, until, within};
use e2e::{App, Ca, Daprd, Sentry, ports};
use proto::internals::v1::service_invocation_client::ServiceInvocationClient;
use proto::sentry::v1::SignCertificateRequest;
use proto::sentry::v1::ca_client::CaClient;
use proto::sentry::v1::sign_certificate_request::TokenValidator;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Status;

use crate::mtls::local_call;

/// A sidecar renews after half of it, and a sentry that starts anew has to be back by then.
const CONFIGURATION: &str = r"
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: daprsystem}
spec: {mtls: {enabled: true, workloadCertTTL: 15s, allowedClockSkew: 1m}}
";

/// Longer than any stage, in seconds.
const LONG: u64 = 1_000_000;

/// Longer than sidecars take to renew twice.
const RENEWED: Duration = Duration::from_secs(40);

async fn sentry(folder: &Path, port: u16) -> Sentry {
    let builder = Sentry::builder().credentials(folder).port(port);
    let builder = builder.arg("--root-rotation-enabled=true");
    builder.config(CONFIGURATION).start().await
}

fn record(folder: &Path) -> Value {
    let text = std::fs::read(folder.join("rotation.json")).expect("sentry keeps one");
    serde_json::from_slice(&text).expect("JSON")
}

/// A workload's certificate of the moment, as a sidecar would get it that knows `anchor` alone.
async fn identity(port: u16, anchor: &CertificateDer<'static>) -> Result<Identity, Status> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let params = rcgen::CertificateParams::default();
    let csr = params.serialize_request(&key).expect("a request");
    let request = SignCertificateRequest {
        id: "friend".into(),
        namespace: "default".into(),
        trust_domain: "public".into(),
        certificate_signing_request: csr.pem().expect("PEM").into_bytes().into(),
        token_validator: TokenValidator::Insecure.into(),
        ..Default::default()
    };
    let channel = Tls::new(anchor.clone(), None).channel(port);
    let answer = CaClient::new(channel).sign_certificate(request).await?;
    let chain = answer.into_inner().workload_certificate;
    let chain = CertificateDer::pem_slice_iter(&chain);
    Ok(Identity {
        chain: chain.collect::<Result<_, _>>().expect("PEM"),
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
    })
}

/// A call over a connection of its own. Answers the callee's certificate.
async fn handshake(
    port: u16,
    anchor: &CertificateDer<'static>,
    identity: Identity,
) -> Result<CertificateDer<'static>, Status> {
    let tls = Tls::new(anchor.clone(), Some(identity));
    let mut client = ServiceInvocationClient::new(tls.channel(port));
    client.call_local(local_call()).await?;
    Ok(tls.server_chain()[0].clone())
}

/// Waits until each sidecar shows another certificate than it does now.
async fn renewed(sidecars: [&Daprd; 2], sentry: u16, anchor: &CertificateDer<'static>) {
    let shown = async |daprd: &Daprd| {
        let identity = identity(sentry, anchor).await.ok()?;
        handshake(daprd.internal_port(), anchor, identity)
            .await
            .ok()
    };
    for daprd in sidecars {
        let before = until("a handshake", RENEWED, async || shown(daprd).await).await;
        eventually("a renewal", RENEWED, async || {
            shown(daprd).await.is_some_and(|now| now != before)
        })
        .await;
    }
}

/// What goes on until it is told to stop; a failure ends the test.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    running: JoinSet<()>,
}

impl Load {
    /// Calls through both sidecars, and handshakes with both by one that knows the old root alone.
    fn start(caller: &Daprd, callee: &Daprd, sentry: u16, old: &CertificateDer<'static>) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let http = caller.http();
        let path = format!("/v1.0/invoke/{}/method/hi", callee.app_id());
        let (ended, counted) = (Arc::clone(&stop), Arc::clone(&done));
        let mut running = JoinSet::new();
        running.spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                http.get(&path).await.expect_status(200);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (ports, old) = ([caller, callee].map(Daprd::internal_port), old.clone());
        let (ended, counted) = (Arc::clone(&stop), Arc::clone(&done));
        running.spawn(async move {
            let mut mine = until("an identity", RENEWED, async || {
                identity(sentry, &old).await.ok()
            })
            .await;
            while !ended.load(Ordering::Relaxed) {
                // A sentry that starts anew is away for a moment; the certificate before lives on.
                if let Ok(next) = identity(sentry, &old).await {
                    mine = next;
                }
                for port in ports {
                    let shaken = handshake(port, &old, mine.clone()).await;
                    shaken.expect("a handshake of one that knows the old root alone");
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self {
            stop,
            done,
            running,
        }
    }

    /// Stops it, and tells how much was done without a failure.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.running.join_all();
        within("the last calls", DEADLINE, ended).await;
        self.done.load(Ordering::Relaxed)
    }

    /// # Panics
    /// As the first of its tasks that has, where something has failed.
    fn check(&mut self) {
        if let Some(ended) = self.running.try_join_next() {
            ended.expect("no call and no handshake fails");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_root_takes_over_and_no_handshake_fails() {
    let folder = e2e::process::folder("credentials");
    let ca = Ca::near_its_end("localhost");
    ca.write_as_sentrys(folder.path());
    let (folder, old) = (folder.path(), ca.anchor());
    let port = ports::several::<1>().map(ports::Reserved::release)[0];
    let mut running = sentry(folder, port).await;
    let app = App::builder()
        .route("/hi", Answer::bytes("hello"))
        .start()
        .await;
    let sidecar = |id: &str| {
        Daprd::builder(id).mtls(&format!("127.0.0.1:{port}"), &ca.anchors_pem(), "localhost")
    };
    let callee = sidecar("rotation-callee").app(&app).start().await;
    let caller = sidecar("rotation-caller").app(&app).start().await;
    let mut load = Load::start(&caller, &callee, port, &old);

    for (stage, next) in [
        ("distribute", "sign"),
        ("sign", "retire"),
        ("retire", "idle"),
    ] {
        eventually(stage, RENEWED, async || record(folder)["stage"] == stage).await;
        renewed([&caller, &callee], port, &old).await;
        load.check();
        running.stop().await;
        let mut written = record(folder);
        assert_eq!(written["stage"], stage, "before its time");
        written["seconds"] = json!(LONG);
        std::fs::write(folder.join("rotation.json"), written.to_string()).expect("ours");
        running = sentry(folder, port).await;
        eventually(next, RENEWED, async || record(folder)["stage"] == next).await;
    }
    renewed([&caller, &callee], port, &old).await;
    let done = load.stop().await;
    assert!(done > 100, "{done} calls and handshakes in so long");

    // One that begins now knows the new root alone, and is known.
    let anchors = running.anchors_pem();
    assert_ne!(anchors, ca.anchors_pem());
    let new = running.anchor();
    assert_eq!(anchors.matches("BEGIN CERTIFICATE").count(), 1);
    let mine = identity(port, &new).await.expect("signed");
    for daprd in [&caller, &callee] {
        let shaken = handshake(daprd.internal_port(), &new, mine.clone()).await;
        shaken.expect("a handshake of one that knows the new root alone");
    }
    caller.stop().await;
    callee.stop().await;
    running.stop().await;
}

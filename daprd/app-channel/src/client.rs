//! The clients of the app's protocol.

use std::sync::Arc;

use component::Body;
use http::HeaderMap;
use hyper_util::client::legacy::Client;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use telemetry::{
    grpc_metrics::{Call, CountedBody, GrpcService},
    http_metrics::ClientService,
};
use tower::Layer;
use transport::{ClientOptions, Connector, Multiplexed};

use crate::{Options, Protocol};

pub struct Clients {
    pub connector: Connector,
    /// Unmeasured, for probes.
    pub http: Client<Connector, Body>,
    pub measured_http: ClientService<Client<Connector, Body>>,
    pub grpc: GrpcClient,
}

/// The measured client of a gRPC app.
pub type GrpcClient = GrpcService<Multiplexed<CountedBody<tonic::body::Body>>>;

/// What a call to a gRPC app is to the metrics. Probes have metrics of their own; what is passed through may stream.
fn classify(path: &str, _: &HeaderMap) -> Call {
    if path == HEALTH_CHECK {
        Call::Ignored
    } else if path.starts_with(APP_CALLBACK) {
        Call::Unary
    } else {
        Call::Stream
    }
}

const APP_CALLBACK: &str = "/dapr.proto.runtime.v1.AppCallback";
const HEALTH_CHECK: &str = "/dapr.proto.runtime.v1.AppCallbackHealthCheck/HealthCheck";

impl Clients {
    pub fn new(options: &Options) -> Self {
        let protocol = options.protocol;
        let connector = if protocol.is_tls() {
            Connector::tls(unverified(protocol))
        } else {
            Connector::plain()
        };
        // No pings: a gRPC server that expects none takes them for an attack after half a minute, and cuts off every call.
        let grpc = ClientOptions {
            keep_alive: None,
            ..ClientOptions::default()
        };
        let http = ClientOptions {
            http2_only: protocol == Protocol::H2c,
            ..grpc.clone()
        };
        let http = transport::client(connector.clone(), http);
        let grpc = Multiplexed::new(connector.clone(), grpc);
        Self {
            measured_http: options.http_metrics.client_layer().layer(http.clone()),
            http,
            grpc: options
                .grpc_metrics
                .client_layer(Arc::new(classify))
                .layer(grpc),
            connector,
        }
    }
}

/// TLS to the app encrypts, and trusts whoever answers on its port: that is what upstream promises (contract 9.5).
fn unverified(protocol: Protocol) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    let alpn: &[u8] = if protocol.is_grpc() {
        b"h2"
    } else {
        b"http/1.1"
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

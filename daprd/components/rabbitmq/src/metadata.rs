//! The metadata that every RabbitMQ component shares: where the server is, and how to reach it (component-metadata.md).

use std::{sync::Arc, time::Duration};

use component::{Error, Metadata, Result, fields::SECOND};
use lapin::uri::{AMQPScheme, AMQPUserInfo, SASLMechanism};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::address::{self, Address};

const HEARTBEAT: Duration = Duration::from_secs(10);
const RECONNECT_WAIT: Duration = Duration::from_secs(3);

component::metadata! {
    /// The fields that every RabbitMQ component has.
    pub struct Declared {
        /// `amqp://user:password@host:port/virtual-host`, or with `amqps` for TLS. Takes the place of the four below.
        connection_string: Option<String> => "connectionString" | "host", secret;
        /// The server, with or without a port.
        hostname: Option<String> => "hostname";
        /// `amqp`, or `amqps` for TLS; has to agree with the connection string.
        protocol: Option<String> => "protocol";
        /// The name to log in with.
        username: Option<String> => "username";
        /// The password to log in with.
        password: Option<String> => "password", secret;
        /// Logs in with the client's certificate in place of a password.
        sasl_external: bool => "saslExternal";
        /// Certificate authorities that the server's certificate may come from, in PEM; those of the system unless it is set.
        ca_cert: Option<String> => "caCert";
        /// The client's own certificate, in PEM.
        client_cert: Option<String> => "clientCert", secret;
        /// Its key, in PEM.
        client_key: Option<String> => "clientKey", secret;
        /// How the connections are called in the server's listings.
        client_name: Option<String> => "clientName";
        /// How long the server may be silent before a connection counts as broken; zero leaves it to the server.
        heartbeat: Duration => "heartBeat", default(HEARTBEAT), unit(SECOND);
        /// Pause before a broken connection is made anew.
        reconnect_wait: Duration => "reconnectWaitSeconds", default(RECONNECT_WAIT), unit(SECOND);
    }
}

/// What is said of the server, checked.
#[derive(Clone)]
pub struct Settings {
    /// Where it is.
    pub address: Address,
    /// For connections over TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// The certificate says who we are.
    pub external: bool,
    /// How connections are called.
    pub client_name: Option<String>,
    /// Pause before a broken connection is made anew.
    pub reconnect_wait: Duration,
}

impl Settings {
    /// Reads and checks.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn read(metadata: &Metadata) -> Result<Self> {
        let declared = Declared::read(metadata)?;
        let mut address = server(&declared)?;
        if !declared.heartbeat.is_zero() {
            let seconds = declared.heartbeat.as_secs().max(1);
            address.uri.query.heartbeat = Some(u16::try_from(seconds).unwrap_or(u16::MAX));
        }
        let complete = declared.ca_cert.is_some()
            && declared.client_cert.is_some()
            && declared.client_key.is_some();
        if declared.sasl_external && !complete {
            return Err(Error::invalid_metadata(
                "saslExternal",
                "needs caCert, clientCert and clientKey",
            ));
        }
        let encrypted = address.uri.scheme == AMQPScheme::AMQPS;
        let tls = encrypted
            .then(|| tls(&declared).map(Arc::new))
            .transpose()?;
        let asked = address.uri.query.auth_mechanism == Some(SASLMechanism::External);
        Ok(Self {
            external: encrypted && (declared.sasl_external || asked),
            tls,
            address,
            client_name: declared.client_name,
            reconnect_wait: declared.reconnect_wait,
        })
    }
}

fn server(declared: &Declared) -> Result<Address> {
    let protocol = declared.protocol.as_deref();
    if let Some(text) = &declared.connection_string {
        let address = Address::parse(text)
            .map_err(|problem| Error::invalid_metadata("connectionString", problem))?;
        if protocol.is_some_and(|protocol| protocol != address.uri.scheme.to_string()) {
            return Err(Error::invalid_metadata(
                "protocol",
                "is not the one of connectionString",
            ));
        }
        return Ok(address);
    }
    let scheme = address::scheme(protocol.unwrap_or("amqp"))
        .map_err(|problem| Error::invalid_metadata("protocol", problem))?;
    let mut address = Address::new(scheme, declared.hostname.as_deref().unwrap_or_default())
        .map_err(|problem| Error::invalid_metadata("hostname", problem))?;
    if let Some(username) = &declared.username {
        let AMQPUserInfo {
            password: guest, ..
        } = address.uri.authority.userinfo;
        address.uri.authority.userinfo = AMQPUserInfo {
            username: username.clone(),
            password: declared.password.clone().unwrap_or(guest),
        };
    }
    Ok(address)
}

fn tls(declared: &Declared) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &declared.ca_cert {
        Some(pem) => {
            for certificate in certificates("caCert", pem)? {
                let added = roots.add(certificate);
                added.map_err(|error| Error::invalid_metadata("caCert", error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("TLS cannot be set up", error))?
        .with_root_certificates(roots);
    match (&declared.client_cert, &declared.client_key) {
        (Some(certificate), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|error| Error::invalid_metadata("clientKey", error))?;
            builder
                .with_client_auth_cert(certificates("clientCert", certificate)?, key)
                .map_err(|error| Error::invalid_metadata("clientCert", error))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(field: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Error::invalid_metadata(field, "has no certificate in PEM")),
        Err(error) => Err(Error::invalid_metadata(field, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<Settings> {
        Settings::read(&Metadata::from_iter(fields.iter().copied()))
    }

    #[test]
    fn a_server_is_named_in_one_text_or_in_parts() {
        let whole = read(&[("host", "amqp://u:p@h:1/")]).unwrap();
        let parts = [("hostname", "h:1"), ("username", "u"), ("password", "p")];
        let parts = read(&parts).unwrap();
        assert!(whole.address == parts.address);
        assert_eq!(whole.address.uri.query.heartbeat, Some(10));
        let silent = read(&[
            ("heartBeat", "0"),
            ("connectionString", "amqp://h?heartbeat=7"),
        ]);
        assert_eq!(silent.unwrap().address.uri.query.heartbeat, Some(7));
        assert!(read(&[]).unwrap().tls.is_none());
        let secure = read(&[("protocol", "amqps")]).unwrap();
        assert_eq!(secure.address.uri.authority.port, 5671);
        assert!(secure.tls.is_some() && !secure.external);
    }

    #[test]
    fn wrong_metadata_are_told_with_the_field() {
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[("connectionString", "redis://h")], "connectionString"),
            (
                &[("connectionString", "amqp://h"), ("protocol", "amqps")],
                "protocol",
            ),
            (&[("hostname", "h:port")], "hostname"),
            (
                &[("saslExternal", "true"), ("protocol", "amqps")],
                "saslExternal",
            ),
            (&[("caCert", "none"), ("protocol", "amqps")], "caCert"),
        ];
        for (fields, field) in cases {
            let error = read(fields).err().expect(field);
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}

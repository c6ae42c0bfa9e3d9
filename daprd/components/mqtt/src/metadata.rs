//! What an MQTT component is configured with (component-metadata.md).

use std::sync::Arc;

use component::{
    Error, Metadata, Result,
    fields::{Field, Kind, Value},
};
use rumqttc::QoS;
use rustls::ClientConfig;
use url::Url;

use crate::tls;

const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

component::metadata! {
    /// The fields of the broker.
    pub struct Declared {
        /// Where the server is: `tcp://user:password@host:port`, or `ssl://` for TLS.
        url: String => "url", secret;
        /// The client id, and with it the session; the app id unless it is set. No two clients have the same at a time.
        consumer: Option<String> => "consumerID";
        /// How surely messages arrive, both those that are published and those that are subscribed to: 0 for at most once,
        /// 1 for at least once, 2 for once.
        qos: Qos => "qos", default(Qos(QoS::AtLeastOnce));
        /// The server keeps what is published, as the last message of its topic.
        retain: bool => "retain";
        /// The server forgets the subscriptions, and what has not been delivered, with the connection. Else it goes on to
        /// collect messages, of a shared subscription a share as well, for a client that may never come back; so this is
        /// true where the consumer id has a UUID in it, unless it is set.
        clean_session: Option<bool> => "cleanSession";
        /// The authorities whose servers are taken, in PEM; those that the system trusts unless it is set.
        authorities: Option<String> => "caCert";
        /// The client's own certificate, in PEM.
        certificate: Option<String> => "clientCert";
        /// Its key, in PEM.
        key: Option<String> => "clientKey", secret;
    }
}

/// A quality of service by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qos(pub QoS);

impl Value for Qos {
    const KIND: Kind = Kind::Integer;

    fn read(text: &str, _: &Field) -> Result<Self, String> {
        match text.trim() {
            "0" => Ok(Self(QoS::AtMostOnce)),
            "1" => Ok(Self(QoS::AtLeastOnce)),
            "2" => Ok(Self(QoS::ExactlyOnce)),
            _ => Err("is none of 0, 1 and 2".to_owned()),
        }
    }

    fn text(&self) -> Option<String> {
        Some((self.0 as u8).to_string())
    }
}

/// The same, checked.
pub struct Settings {
    /// Of the server, without brackets.
    pub host: String,
    /// Of the server.
    pub port: u16,
    /// How to speak TLS, where that is spoken.
    pub tls: Option<Arc<ClientConfig>>,
    /// To log in with; the password may be empty.
    pub login: Option<(String, String)>,
    /// The client id.
    pub consumer: String,
    /// Of messages both ways.
    pub qos: QoS,
    /// Of messages that do not say it.
    pub retain: bool,
    /// Nothing is kept from one connection to the next.
    pub clean_session: bool,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// Names the field.
    pub fn read(metadata: &Metadata, app_id: &str) -> Result<Self> {
        let declared = Declared::read(metadata)?;
        let wrong = |problem: &str| Error::invalid_metadata("url", problem);
        // Q-mqtt-websocket
        let url =
            Url::parse(&declared.url).map_err(|error| Error::invalid_metadata("url", error))?;
        let speaks_tls = match url.scheme() {
            "tcp" | "mqtt" => false,
            "ssl" | "tls" | "mqtts" | "tcps" => true,
            "ws" | "wss" => return Err(wrong("MQTT over WebSocket is not built in")),
            other => return Err(wrong(&format!("the scheme {other} is not known"))),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| wrong("has no host name"))?;
        let consumer = declared.consumer.unwrap_or_else(|| app_id.to_owned());
        if consumer.is_empty() {
            return Err(Error::invalid_metadata("consumerID", "is required"));
        }
        if consumer.len() > LONGEST_CLIENT_ID || consumer.contains('\0') {
            return Err(Error::invalid_metadata("consumerID", "is no client id"));
        }
        let tls = tls::Files {
            authorities: declared.authorities.as_deref(),
            certificate: declared.certificate.as_deref(),
            key: declared.key.as_deref(),
        };
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(match speaks_tls {
                true => TLS_PORT,
                false => PORT,
            }),
            tls: speaks_tls.then(|| tls::config(&tls)).transpose()?,
            login: login(&url)?,
            // Q-mqtt-generated
            clean_session: declared
                .clean_session
                .unwrap_or_else(|| is_generated(&consumer)),
            consumer,
            qos: declared.qos.0,
            retain: declared.retain,
        })
    }

    /// For messages about the server.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// What the wire can carry, with room for the suffix of the connection that publishes.
const LONGEST_CLIENT_ID: usize = u16::MAX as usize - 100;

fn login(url: &Url) -> Result<Option<(String, String)>> {
    let decode = |text: &str| {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
        decoded
            .map(|text| text.into_owned())
            .map_err(|error| Error::invalid_metadata("url", error))
    };
    if url.username().is_empty() {
        return Ok(None);
    }
    let password = decode(url.password().unwrap_or_default())?;
    Ok(Some((decode(url.username())?, password)))
}

/// Whether a client id is another one at each start: it has a UUID in it, as the template `{uuid}` makes it. A session kept
/// for such a client is one that nobody comes back to.
fn is_generated(consumer: &str) -> bool {
    consumer.as_bytes().windows(UUID.len()).any(|window| {
        let digits = window.iter().zip(UUID.bytes());
        digits.into_iter().all(|(byte, shape)| match shape {
            b'-' => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    })
}

const UUID: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

#[cfg(test)]
mod tests {
    use component::ErrorKind;

    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<Settings> {
        Settings::read(&Metadata::from_iter(fields.iter().copied()), "app")
    }

    #[test]
    fn addresses_are_read_in_all_spellings() {
        for (url, expected) in [
            ("tcp://a", "a:1883"),
            ("mqtt://a:7", "a:7"),
            ("ssl://a", "a:8883"),
            ("mqtts://a:9", "a:9"),
            ("tcp://[::1]:5", "::1:5"),
        ] {
            assert_eq!(read(&[("url", url)]).unwrap().address(), expected);
        }
        for url in ["ws://a", "http://a", "a:1883", "tcp://", "tcp://a:x"] {
            let error = read(&[("url", url)]).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidMetadata, "{url}");
            assert!(error.to_string().contains("url"), "{error}");
        }
    }

    #[test]
    fn the_login_is_decoded_and_never_shown() {
        let settings = read(&[("url", "tcp://us%40er:p%2Fw@a")]).unwrap();
        assert_eq!(settings.login, Some(("us@er".into(), "p/w".into())));
        assert_eq!(read(&[("url", "tcp://a")]).unwrap().login, None);
        let error = read(&[("url", "tcp://user:secret@a:port")]).err().unwrap();
        let told = component::error::chain(&error);
        assert!(!told.contains("secret"), "{told}");
    }

    #[test]
    fn sessions_are_kept_except_for_generated_clients() {
        let clean = |consumer: &str, field: &[(&str, &str)]| {
            let own = [("url", "tcp://a"), ("consumerID", consumer)];
            read(&[&own[..], field].concat()).unwrap().clean_session
        };
        let generated = "app-0f8fad5b-d9cb-469f-a165-70867728950e";
        assert!(!clean("app", &[]));
        assert!(clean(generated, &[]));
        assert!(!clean(generated, &[("cleanSession", "false")]));
        assert!(clean("app", &[("cleanSession", "true")]));
    }

    #[test]
    fn a_quality_of_service_has_three_values() {
        let qos = |text| read(&[("url", "tcp://a"), ("qos", text)]);
        assert_eq!(qos("2").unwrap().qos, QoS::ExactlyOnce);
        assert_eq!(qos("").unwrap().qos, QoS::AtLeastOnce);
        assert!(qos("3").err().unwrap().to_string().contains("qos"));
    }
}

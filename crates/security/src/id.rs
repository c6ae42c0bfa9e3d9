//! SPIFFE ids as Dapr writes them: `spiffe://<trust domain>/ns/<namespace>/<app id>` (contract 6.4).

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// Longest SPIFFE id, from the SPIFFE standard.
const MAX_ID: usize = 2048;
/// Longest trust domain, from the SPIFFE standard.
const MAX_TRUST_DOMAIN: usize = 255;

/// A checked trust domain name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The trust domain of apps that name none.
    pub const PUBLIC: &'static str = "public";

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        let reason = if text.is_empty() {
            "the trust domain is empty"
        } else if text.len() > MAX_TRUST_DOMAIN {
            "the trust domain is longer than 255 characters"
        } else if !text.bytes().all(allowed) {
            "a trust domain has lower case letters, digits, dots, dashes and underscores only"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(invalid(text, reason))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    namespace: String,
    app_id: String,
}

impl SpiffeId {
    /// Joins the three parts.
    ///
    /// # Errors
    /// [`Error::Id`] for parts that SPIFFE does not allow.
    pub fn new(trust_domain: &str, namespace: &str, app_id: &str) -> Result<Self, Error> {
        let trust_domain = trust_domain.parse()?;
        segment(namespace, "the namespace")?;
        segment(app_id, "the app id")?;
        Ok(Self {
            trust_domain,
            namespace: namespace.to_owned(),
            app_id: app_id.to_owned(),
        })
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.trust_domain.as_str()
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The app id, or the name of a control-plane service.
    #[must_use]
    pub fn app_id(&self) -> &str {
        &self.app_id
    }
}

impl FromStr for SpiffeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_ID {
            return Err(invalid(text, "it is longer than 2048 characters"));
        }
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or_else(|| invalid(text, "the scheme is not spiffe"))?;
        let mut parts = rest.split('/');
        match (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) {
            (Some(domain), Some("ns"), Some(namespace), Some(app_id), None) => {
                Self::new(domain, namespace, app_id)
            }
            _ => Err(invalid(text, "the path is not /ns/<namespace>/<app id>")),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/{}",
            self.trust_domain, self.namespace, self.app_id
        )
    }
}

fn segment(text: &str, what: &'static str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let reason = match text {
        "" if what == "the app id" => "the app id is empty",
        "" => "the namespace is empty",
        "." | ".." => "a part of the path is a dot segment",
        _ if text.len() > MAX_ID => "a part of the path is too long",
        _ if !text.bytes().all(allowed) => {
            "the path has letters, digits, dots, dashes and underscores only"
        }
        _ => return Ok(()),
    };
    Err(invalid(text, reason))
}

fn invalid(text: &str, reason: &'static str) -> Error {
    Error::Id {
        text: text.chars().take(100).collect(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        let id: SpiffeId = "spiffe://cluster.local/ns/dapr-system/dapr-sentry"
            .parse()
            .unwrap();
        assert_eq!(
            (id.trust_domain(), id.namespace(), id.app_id()),
            ("cluster.local", "dapr-system", "dapr-sentry")
        );
        assert_eq!(
            id.to_string(),
            "spiffe://cluster.local/ns/dapr-system/dapr-sentry"
        );
        assert_eq!(
            id,
            SpiffeId::new("cluster.local", "dapr-system", "dapr-sentry").unwrap()
        );
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "https://public/ns/a/b",
            "spiffe://public/ns/a",
            "spiffe://public/ns/a/b/c",
            "spiffe://public/ns/a/",
            "spiffe://public/sa/a/b",
            "spiffe:///ns/a/b",
            "spiffe://PUBLIC/ns/a/b",
            "spiffe://public:80/ns/a/b",
            "spiffe://public/ns/../b",
            "spiffe://public/ns/a/b%2fc",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
        assert!(SpiffeId::new("public", "default", "my app").is_err());
    }
}

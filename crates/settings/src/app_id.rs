//! What an app ID may look like, and the port between sidecars that follows from it.

use aws_lc_rs::digest::{SHA256, digest};

/// Why an app ID is refused.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No app ID at all.
    #[error("app id is empty")]
    Empty,
    /// A dot, which mDNS and addresses give another meaning.
    #[error("app id {0:?} contains a dot")]
    Dot(String),
    /// The Kubernetes service of the app could not have its name.
    #[error(
        "invalid app id {app_id:?}: service name {service:?} is not a DNS-1123 label (at most {MAX_LABEL} lower case \
         letters, digits and hyphens, starting and ending with a letter or digit)"
    )]
    Service {
        /// The app ID.
        app_id: String,
        /// The service it stands for.
        service: String,
    },
}

/// The rule outside Kubernetes: not empty, no dots.
///
/// # Errors
/// [`Error::Empty`] or [`Error::Dot`].
pub fn check_standalone(app_id: &str) -> Result<(), Error> {
    match app_id {
        "" => Err(Error::Empty),
        _ if app_id.contains('.') => Err(Error::Dot(app_id.to_owned())),
        _ => Ok(()),
    }
}

/// The rule in Kubernetes: the service `<app id>-dapr` is a DNS-1123 label (contract 4.4).
///
/// # Errors
/// [`Error::Empty`] or [`Error::Service`].
pub fn check_kubernetes(app_id: &str) -> Result<(), Error> {
    if app_id.is_empty() {
        return Err(Error::Empty);
    }
    let service = service_name(app_id);
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let well_formed = service.len() <= MAX_LABEL
        && service
            .bytes()
            .all(|byte| alphanumeric(byte) || byte == b'-')
        && service.bytes().next().is_some_and(alphanumeric);
    if well_formed {
        Ok(())
    } else {
        Err(Error::Service {
            app_id: app_id.to_owned(),
            service,
        })
    }
}

/// Name of the Kubernetes service in front of an app's sidecars.
pub fn service_name(app_id: &str) -> String {
    format!("{app_id}-dapr")
}

/// The port between sidecars when none is asked for: the same for the same app, folder, user and host, between 47300
/// and 65534, so that scripts find it again. The caller falls back to any free port when this one is taken.
///
/// The port is 47300 plus the first two bytes, little endian, of the SHA-256 of the four parts joined by bars, modulo
/// the 18235 ports up to 65534. A host name that cannot be read is empty.
pub fn stable_port(app_id: &str, folder: &str, user: u32, host: &str) -> u16 {
    let hash = digest(
        &SHA256,
        format!("{app_id}|{folder}|{user}|{host}").as_bytes(),
    );
    let number = match hash.as_ref() {
        [low, high, ..] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    FIRST_PORT + number % (u16::MAX - FIRST_PORT)
}

/// Longest DNS-1123 label.
const MAX_LABEL: usize = 63;
/// Lowest port that [`stable_port`] answers.
const FIRST_PORT: u16 = 47300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_names() {
        assert_eq!(check_kubernetes("shop"), Ok(()));
        assert_eq!(check_kubernetes(&"a".repeat(58)), Ok(()));
        for bad in ["", "Shop", "shop_1", "-shop", "a.b", &"a".repeat(59)] {
            assert!(check_kubernetes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn standalone_names() {
        assert_eq!(check_standalone("Shop_1"), Ok(()));
        assert_eq!(check_standalone("a.b"), Err(Error::Dot("a.b".into())));
        assert_eq!(check_standalone(""), Err(Error::Empty));
    }

    #[test]
    fn the_port_follows_from_the_four_parts() {
        // SHA-256 of "myapp|/srv|1000|box" begins with 53 ee.
        assert_eq!(stable_port("myapp", "/srv", 1000, "box"), EXPECTED);
        assert_ne!(stable_port("myapp", "/srv", 1001, "box"), EXPECTED);
        assert!((0..500).all(|user| stable_port("a", "/", user, "h") >= FIRST_PORT));
    }

    const EXPECTED: u16 = 53606;
}

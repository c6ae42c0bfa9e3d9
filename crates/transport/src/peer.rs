//! Who is at the other end of a connection; the accept loop puts a `Peer` in the extensions of every request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use crate::Error;

/// The other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The caller's address; none on unix sockets.
    pub address: Option<SocketAddr>,
    /// The identity proven by a client certificate; none without mutual TLS.
    pub identity: Option<PeerIdentity>,
}

impl Peer {
    /// The address that a request came from, without the port; none of unix sockets, and of what no listener accepted.
    #[must_use]
    pub fn ip_of<B>(request: &http::Request<B>) -> Option<IpAddr> {
        request.extensions().get::<Self>()?.ip()
    }

    /// The address without the port, IPv4 as such.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip().to_canonical())
    }
}

/// A certificate chain that the TLS stack has verified, and its one URI name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PeerIdentity(Arc<Verified>);

#[derive(Debug)]
struct Verified {
    chain: Vec<CertificateDer<'static>>,
    uri: String,
}

impl PeerIdentity {
    /// Reads the URI name of a verified chain, leaf first.
    ///
    /// # Errors
    /// [`Error::Identity`] unless the leaf carries exactly one URI name.
    pub fn from_chain(chain: &[CertificateDer<'_>]) -> Result<Self, Error> {
        let leaf = chain.first().ok_or(Error::Identity { found: 0 })?;
        let parsed =
            webpki::EndEntityCert::try_from(leaf).map_err(|_| Error::Identity { found: 0 })?;
        let mut names = parsed.valid_uri_names();
        let (Some(uri), rest) = (names.next(), names.count()) else {
            return Err(Error::Identity { found: 0 });
        };
        if rest > 0 {
            return Err(Error::Identity { found: rest + 1 });
        }
        let uri = uri.to_owned();
        let chain = chain.iter().map(|c| c.clone().into_owned()).collect();
        Ok(Self(Arc::new(Verified { chain, uri })))
    }

    /// The one URI name of the leaf, in Dapr a SPIFFE id.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.0.uri
    }

    /// The chain as the peer sent it, leaf first, DER.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0.chain
    }
}

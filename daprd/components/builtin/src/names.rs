//! Name resolution without a registry: by mDNS on the local network, or by a name that is made from the app id.

pub mod mdns;

use async_trait::async_trait;
use component::{Component, Error, Metadata, NameResolver, Result, names::Target};

/// Internal gRPC port of a sidecar in Kubernetes (contract 9.6).
const KUBERNETES_PORT: u16 = 50002;

const APP_ID: &str = "{appid}";

component::metadata! {
    /// What `nameformat` is configured with.
    pub struct Named {
        /// The host, and perhaps a port, with `{appid}` in the place of the app id.
        format: String => "format";
    }
}

component::metadata! {
    /// What `kubernetes` is configured with.
    pub struct Kubernetes {
        /// The domain of the cluster's names.
        cluster_domain: String => "clusterDomain", default("cluster.local".to_owned());
        /// Not supported: it is a template of another language.
        template: Option<String> => "template";
    }
}

/// Makes an address from the app id and the namespace.
pub struct Format {
    kind: Kind,
}

enum Kind {
    /// `<app>-dapr.<namespace>.svc.<cluster domain>:50002`
    Kubernetes { cluster_domain: String },
    /// A format with `{appid}`; the caller's internal port.
    Named { format: String },
}

impl Format {
    /// Reads `format`.
    ///
    /// # Errors
    /// Where it is absent or has no place for the app id.
    pub fn open(metadata: &Metadata) -> Result<Self> {
        let Named { format } = Named::read(metadata)?;
        if !format.contains(APP_ID) {
            return Err(Error::invalid_metadata(
                "format",
                format!("{format:?} has no {APP_ID}"),
            ));
        }
        Ok(Self {
            kind: Kind::Named { format },
        })
    }

    /// Reads `clusterDomain`, by default `cluster.local`.
    ///
    /// # Errors
    /// Where `template` is set, which is not supported.
    pub fn kubernetes(metadata: &Metadata) -> Result<Self> {
        let settings = Kubernetes::read(metadata)?;
        if settings.template.is_some() {
            return Err(Error::invalid_metadata(
                "template",
                "templates of another language are not supported; use the nameformat resolver",
            ));
        }
        Ok(Self {
            kind: Kind::Kubernetes {
                cluster_domain: settings.cluster_domain,
            },
        })
    }
}

impl Component for Format {}

#[async_trait]
impl NameResolver for Format {
    async fn resolve(&self, target: &Target) -> Result<String> {
        let Target {
            app_id,
            namespace,
            port,
        } = target;
        Ok(match &self.kind {
            Kind::Kubernetes { cluster_domain } => {
                format!("{app_id}-dapr.{namespace}.svc.{cluster_domain}:{KUBERNETES_PORT}")
            }
            Kind::Named { format } => {
                let host = format.replace(APP_ID, app_id);
                if host
                    .rsplit_once(':')
                    .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
                {
                    host
                } else {
                    format!("{host}:{port}")
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            app_id: "app".into(),
            namespace: "ns".into(),
            port: 47300,
        }
    }

    #[tokio::test]
    async fn kubernetes_names_are_those_of_the_operators_services() {
        let resolver = Format::kubernetes(&Metadata::default()).unwrap();
        assert_eq!(
            resolver.resolve(&target()).await.unwrap(),
            "app-dapr.ns.svc.cluster.local:50002"
        );
    }

    #[tokio::test]
    async fn a_format_needs_a_place_for_the_app() {
        let resolver = Format::open(&Metadata::from_iter([("format", "{appid}.svc")])).unwrap();
        assert_eq!(resolver.resolve(&target()).await.unwrap(), "app.svc:47300");
        assert!(Format::open(&Metadata::from_iter([("format", "x")])).is_err());
    }
}

//! The root of every resource: `apiVersion`, `kind` and `metadata`, with `spec` and its siblings.
//!
//! kube's derive macro knows only `spec` and `status`, while Dapr's objects carry `auth` and `scopes`
//! beside `spec`; so the roots come from the small macro below.

use k8s_openapi::NamespaceResourceScope;
use macro_rules_attribute::apply;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::object::object;

/// The API group of every resource.
pub const GROUP: &str = "dapr.io";

/// What all resources have in common, for code that is generic over them.
pub trait Kind:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Serialize
    + DeserializeOwned
    + JsonSchema
    + Clone
    + std::fmt::Debug
    + PartialEq
    + Send
    + Sync
    + 'static
{
    /// The `kind`, e.g. `Component`.
    const KIND: &'static str;
    /// The plural in URLs and in the CRD's name, e.g. `components`.
    const PLURAL: &'static str;
    /// The version inside the group, e.g. `v1alpha1`.
    const VERSION: &'static str;
    /// Group and version, e.g. `dapr.io/v1alpha1`.
    const API_VERSION: &'static str;

    /// App IDs that load the resource; empty means all (contract 3.2).
    fn scopes(&self) -> &[String];

    /// The secret store that resolves `secretKeyRef`s; `None` leaves the choice to the mode
    /// (`kubernetes` in a cluster, none on a plain machine).
    fn secret_store(&self) -> Option<&str>;

    /// The object's name; empty when a file does not give one.
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }

    /// The object's namespace, if it states one.
    fn namespace(&self) -> Option<&str> {
        self.meta()
            .namespace
            .as_deref()
            .filter(|namespace| !namespace.is_empty())
    }

    /// Whether an app loads the resource.
    fn in_scope(&self, app_id: &str) -> bool {
        self.scopes().is_empty() || self.scopes().iter().any(|scope| scope == app_id)
    }
}

/// Where the secrets of a resource are kept.
#[apply(object)]
pub struct Auth {
    /// Name of the secret store component that resolves `secretKeyRef`s.
    pub secret_store: String,
}

/// Defines a root type, its JSON and its place in the Kubernetes API. The words in brackets name the
/// siblings of `spec` that the kind has: `auth`, `scopes`.
macro_rules! resource {
    (
        $(#[$doc:meta])*
        $name:ident: $kind:literal, $plural:literal, $version:literal, $spec:ty
        $(, [auth] $auth:ident)? $(, [scopes] $scopes:ident)?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default)]
        pub struct $name {
            /// Name, namespace, labels and annotations.
            #[serde(deserialize_with = "crate::lenient::or_default")]
            pub metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            /// What the resource says.
            #[serde(deserialize_with = "crate::lenient::or_default")]
            pub spec: $spec,
            $(
                /// Where secrets that the resource refers to are kept.
                pub $auth: Option<crate::resource::Auth>,
            )?
            $(
                /// App IDs that load the resource; empty means all.
                #[serde(deserialize_with = "crate::lenient::or_default")]
                pub $scopes: Vec<String>,
            )?
        }

        impl $name {
            /// An object with a name and a spec, and nothing else.
            pub fn new(name: &str, spec: $spec) -> Self {
                let mut object = Self { spec, ..Self::default() };
                object.metadata.name = Some(name.to_owned());
                object
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("apiVersion", <Self as crate::Kind>::API_VERSION)?;
                map.serialize_entry("kind", <Self as crate::Kind>::KIND)?;
                map.serialize_entry("metadata", &self.metadata)?;
                map.serialize_entry("spec", &self.spec)?;
                $(if let Some(auth) = &self.$auth {
                    map.serialize_entry("auth", auth)?;
                })?
                $(if !self.$scopes.is_empty() {
                    map.serialize_entry("scopes", &self.$scopes)?;
                })?
                map.end()
            }
        }

        impl kube::Resource for $name {
            type DynamicType = ();
            type Scope = k8s_openapi::NamespaceResourceScope;
            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                $kind.into()
            }
            fn group((): &()) -> std::borrow::Cow<'_, str> {
                crate::GROUP.into()
            }
            fn version((): &()) -> std::borrow::Cow<'_, str> {
                $version.into()
            }
            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }

        impl crate::Kind for $name {
            const KIND: &'static str = $kind;
            const PLURAL: &'static str = $plural;
            const VERSION: &'static str = $version;
            const API_VERSION: &'static str = concat!("dapr.io/", $version);
            fn scopes(&self) -> &[String] {
                $(return &self.$scopes;)?
                #[allow(unreachable_code, reason = "kinds without scopes end here")]
                &[]
            }
            fn secret_store(&self) -> Option<&str> {
                $(if let Some(auth) = &self.$auth
                    && !auth.secret_store.is_empty()
                {
                    return Some(&auth.secret_store);
                })?
                None
            }
        }
    };
}

pub(crate) use resource;

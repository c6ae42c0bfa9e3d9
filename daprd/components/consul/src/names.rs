//! `nameresolution.consul`: apps are services of Consul, and the port of their sidecars stands in the services' metadata.

use async_trait::async_trait;
use component::{
    Component, Error, ErrorKind, NameResolver, Open, Result, Scope,
    error::chain,
    names::{Cached, Lookup, Target},
};
use serde_json::{Map, Value, json};

use crate::{
    agent::{Agent, Healthy},
    settings::{self, Query},
};

component::metadata! {
    /// What the resolver is opened with. Objects are those of Consul's API; their members are found in any case.
    pub struct Declared {
        /// How the agent is reached: an object of `address`, `scheme`, `datacenter`, `token`, `tokenFile`, `httpAuth` and
        /// `tlsConfig`.
        client: Option<String> => "client", secret;
        /// The checks of the service: a list of objects; without it, the sidecar's health.
        checks: Option<String> => "checks";
        /// Tags of the service: a list.
        tags: Option<String> => "tags";
        /// Metadata of the service: an object.
        meta: Option<String> => "meta";
        /// What lookups ask for: an object.
        query: Option<String> => "queryOptions", secret;
        /// The service as it is announced: an object, in place of `checks`, `tags`, `meta` and `selfRegister`.
        registration: Option<String> => "advancedRegistration";
        /// The metadata of a service that holds the port of its sidecar.
        port_key: String => "daprPortMetaKey", default("DAPR_PORT".to_owned());
        /// Announces this app as a service.
        register: bool => "selfRegister";
        /// Withdraws it at the end.
        deregister: bool => "selfDeregister";
    }
    // Addresses are always kept.
    ignored { "useCache": Boolean }
}

/// Where sidecars are, by Consul.
pub struct Consul {
    services: Cached<Services>,
    /// What is withdrawn at the end.
    own: Option<String>,
    scope: Scope,
}

struct Services {
    agent: Agent,
    query: Query,
    port_key: String,
}

impl Consul {
    /// Announces this app where that is asked for, or looks whether the agent answers.
    ///
    /// # Errors
    /// Wrong settings, or an agent that cannot be asked.
    pub async fn open(open: Open) -> Result<Self> {
        let declared = Declared::read(&open.metadata)?;
        let client = declared.client.as_deref();
        let client = client.map(|text| settings::object("client", text));
        let agent = Agent::new(&open, client.transpose()?.unwrap_or_default()).await?;
        let query = declared.query.as_deref();
        let query = query.map(|text| settings::object("queryOptions", text));
        let query = query.transpose()?.unwrap_or(Query {
            cached: true,
            ..Query::default()
        });
        let service = service(&declared, &open)?;
        match &service {
            Some(service) => agent.register(service).await?,
            None => agent.check().await?,
        }
        let id = service.and_then(|service| named(&service, "id"));
        Ok(Self {
            services: Cached::new(Services {
                agent,
                query,
                port_key: declared.port_key,
            }),
            own: id.filter(|_| declared.deregister),
            scope: open.scope,
        })
    }
}

/// What is announced, if anything.
fn service(declared: &Declared, open: &Open) -> Result<Option<Value>> {
    let instance = &open.instance;
    let port = instance.internal_port.to_string();
    if let Some(text) = &declared.registration {
        let mut service: Map<String, Value> = parse("advancedRegistration", text)?;
        let key = service.keys().find(|key| key.eq_ignore_ascii_case("meta"));
        let key = key.cloned().unwrap_or_else(|| "Meta".to_owned());
        let meta = service.entry(key).or_insert_with(|| json!({}));
        let Some(meta) = meta.as_object_mut() else {
            let problem = "its meta is no object";
            return Err(Error::invalid_metadata("advancedRegistration", problem));
        };
        meta.insert(declared.port_key.clone(), port.into());
        return Ok(Some(Value::Object(service)));
    }
    if !declared.register {
        return Ok(None);
    }
    let (app_id, host, http) = (&instance.app_id, &instance.host_address, instance.http_port);
    let id = format!("{app_id}-{host}-{http}");
    let shown = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.clone(),
    };
    let checks = match &declared.checks {
        Some(text) => parse("checks", text)?,
        None => json!([{
            "Name": "Dapr Health Status",
            "CheckID": format!("daprHealth:{id}"),
            "Interval": "15s",
            "HTTP": format!("http://{shown}:{http}/v1.0/healthz?appid={app_id}"),
        }]),
    };
    let mut meta: Map<String, Value> = match &declared.meta {
        Some(text) => parse("meta", text)?,
        None => Map::new(),
    };
    meta.insert(declared.port_key.clone(), port.into());
    let tags: Value = match &declared.tags {
        Some(text) => parse("tags", text)?,
        None => json!([]),
    };
    Ok(Some(json!({
        "ID": id, "Name": app_id, "Address": host, "Port": instance.app_port,
        "Checks": checks, "Tags": tags, "Meta": meta,
    })))
}

fn parse<T: serde::de::DeserializeOwned>(field: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::invalid_metadata(field, error))
}

/// A member in any case; the id of a service is its name unless it says otherwise.
fn named(service: &Value, member: &str) -> Option<String> {
    let find = |wanted: &str| {
        let mut members = service.as_object()?.iter();
        let found = members.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found?.1.as_str().map(str::to_owned)
    };
    find(member).or_else(|| find("name"))
}

impl Services {
    /// The sidecar of an instance.
    fn address(&self, instance: Healthy) -> Option<String> {
        let port = instance.service.meta?.remove(&self.port_key)?;
        let port: u16 = port.parse().ok()?;
        let host = match instance.service.address.is_empty() {
            true => instance.node.address,
            false => instance.service.address,
        };
        match host.contains(':') {
            _ if host.is_empty() => None,
            true => Some(format!("[{host}]:{port}")),
            false => Some(format!("{host}:{port}")),
        }
    }
}

#[async_trait]
impl Lookup for Services {
    async fn lookup(&self, target: &Target) -> Result<Vec<String>> {
        let found = self.agent.healthy(&target.app_id, &self.query).await?;
        let healthy = found.len();
        let instances = found.into_iter();
        let mut addresses: Vec<String> = instances
            .filter_map(|instance| self.address(instance))
            .collect();
        if addresses.is_empty() && healthy > 0 {
            let text = format!(
                "the service {} has no {} in its metadata",
                target.app_id, self.port_key
            );
            return Err(Error::new(ErrorKind::NotFound, text));
        }
        // Consul lists them in an order of its own, and many sidecars ask.
        fastrand::shuffle(&mut addresses);
        Ok(addresses)
    }
}

#[async_trait]
impl Component for Consul {
    async fn close(&self) {
        self.scope.end();
        if let Some(id) = &self.own
            && let Err(error) = self.services.registry().agent.deregister(id).await
        {
            tracing::warn!("{id} stays announced in Consul: {}", chain(&error));
        }
    }
}

#[async_trait]
impl NameResolver for Consul {
    async fn resolve(&self, target: &Target) -> Result<String> {
        self.services.resolve(target, &self.scope).await
    }

    fn doubt(&self, address: &str) {
        self.services.doubt(address);
    }
}

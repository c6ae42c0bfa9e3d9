//! Secrets from the environment of this process.

use std::collections::BTreeMap;

use async_trait::async_trait;
use component::{
    Component, Result, SecretStore,
    secrets::{Capabilities, Secret},
};

/// Variables of these families configure the sidecar; an app must not read them back.
const RESERVED: [&str; 2] = ["DAPR_", "APP_API_TOKEN"];

component::metadata! {
    /// Environment variables as secrets.
    pub struct Environment {
        /// Is put before every name asked for.
        prefix: String => "prefix", default(String::new());
    }
}

fn is_readable(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    !RESERVED.iter().any(|reserved| name.starts_with(reserved))
}

impl Component for Environment {}

#[async_trait]
impl SecretStore for Environment {
    fn capabilities(&self) -> Capabilities {
        Capabilities::EMPTY
    }

    async fn secret(&self, name: &str, _: &BTreeMap<String, String>) -> Result<Secret> {
        let variable = format!("{}{name}", self.prefix);
        // An absent variable is an empty secret, as it is for a shell; one that is not to be read looks like that.
        let value = match is_readable(&variable) {
            true => std::env::var(&variable).unwrap_or_default(),
            false => {
                tracing::warn!(
                    target: "dapr.contrib",
                    "environment variable {variable} configures the sidecar and is not readable"
                );
                String::new()
            }
        };
        Ok(Secret::from([(name.to_owned(), value)]))
    }

    async fn all(&self, _: &BTreeMap<String, String>) -> Result<BTreeMap<String, Secret>> {
        Ok(std::env::vars()
            .filter(|(name, _)| is_readable(name))
            .filter_map(|(name, value)| {
                let name = name.strip_prefix(&self.prefix)?.to_owned();
                Some((name.clone(), Secret::from([(name, value)])))
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use component::Metadata;

    use super::*;

    #[tokio::test]
    async fn the_sidecars_own_variables_are_not_readable() {
        let store = Environment::read(&Metadata::default()).unwrap();
        assert!(!is_readable("dapr_api_token") && is_readable("PATH"));
        let secret = store.secret("dapr_api_token", &BTreeMap::new()).await;
        assert_eq!(secret.unwrap()["dapr_api_token"], "");
    }

    #[tokio::test]
    async fn a_prefix_is_put_before_names() {
        let metadata = Metadata::from_iter([("prefix", "PA")]);
        let store = Environment::read(&metadata).unwrap();
        let secret = store.secret("TH", &BTreeMap::new()).await.unwrap();
        assert_eq!(secret["TH"], std::env::var("PATH").unwrap());
        let all = store.all(&BTreeMap::new()).await.unwrap();
        assert_eq!(all["TH"]["TH"], secret["TH"]);
    }
}

//! Keeps secrets out of the reason why a component could not be opened. It goes to the log, to the metadata API and, in a
//! cluster, to the status of the Component, which more people may read than the Secret; and what a client library puts into
//! its errors is not ours to say.

use anyhow::{Error, anyhow};
use component::{Catalog, Metadata, catalog};
use crds::Component;

/// What stands in the place of a secret.
const REDACTED: &str = "[redacted]";

/// A shorter value occurs in any text, and taking it out would tell more than leaving it.
const SHORTEST: usize = 4;

/// The secrets of one component.
#[derive(Debug, Default)]
pub struct Redaction {
    /// The longest first, as one may be a part of another.
    secrets: Vec<String>,
}

impl Redaction {
    /// What came from a secret store, and the fields that the type declares as secret.
    pub fn new(component: &Component, metadata: &Metadata, catalog: &Catalog) -> Self {
        let spec = &component.spec;
        let (component_type, version) = (&spec.component_type, super::version(component));
        let referred = spec.metadata.iter();
        let referred = referred.filter(|pair| pair.secret_key_ref.is_some());
        let referred = referred.filter_map(|pair| metadata.text(&pair.name));
        let same = |entry: &&catalog::Entry| {
            let names = entry.names.iter();
            let mut keys =
                names.map(|name| catalog::key(&format!("{}.{name}", entry.kind), entry.version));
            keys.any(|key| key == catalog::key(component_type, version))
        };
        let fields = catalog
            .entries()
            .filter(same)
            .flat_map(|entry| entry.fields.iter());
        let names = fields
            .filter(|field| field.secret)
            .flat_map(|field| field.aliases.iter().chain([&field.name]));
        let declared = names.filter_map(|name| metadata.text(name));
        let mut secrets: Vec<String> = referred.chain(declared).flat_map(forms).collect();
        secrets.retain(|secret| secret.len() >= SHORTEST);
        secrets.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self { secrets }
    }

    /// The error without the secrets; as it is where there are none in it.
    pub fn apply(&self, error: Error) -> Error {
        let text = format!("{error:#}");
        if !self.secrets.iter().any(|secret| text.contains(secret)) {
            return error;
        }
        let secrets = self.secrets.iter();
        anyhow!(secrets.fold(text, |text, secret| text.replace(secret, REDACTED)))
    }
}

/// A secret as it may show: whole, by line, and the password in a URL, which clients print by itself.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    forms.extend(secret.lines().map(|line| line.trim().to_owned()));
    if let Some((_, rest)) = secret.split_once("://")
        && let Some((user, _)) = rest.rsplit_once('@')
        && let Some((_, password)) = user.split_once(':')
    {
        forms.push(password.to_owned());
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;
    use component::{
        catalog::Registration,
        fields::{Field, Fields, Kind},
    };
    use serde_json::json;
    use std::sync::Arc;

    fn redaction(metadata: &[(&str, &str)]) -> Redaction {
        let password = Field {
            secret: true,
            ..Field::ignored("redisPassword", Kind::Text)
        };
        let host = Field::ignored("redisHost", Kind::Text);
        let mut catalog = Catalog::default();
        let registration = Registration::new("redis", "redis", Fields::new(vec![password, host]));
        let nowhere = async |_| {
            Err::<Arc<dyn component::StateStore>, _>(component::Error::unsupported("opening"))
        };
        catalog
            .state
            .add(registration, nowhere)
            .expect("a new type");
        let component: Component = serde_json::from_value(json!({
            "metadata": {"name": "store"},
            "spec": {"type": "state.Redis", "version": "v1", "metadata": [
                {"name": "redisHost", "secretKeyRef": {"name": "redis", "key": "host"}},
                {"name": "redisPassword", "value": "given in metadata"},
            ]},
        }))
        .expect("a component");
        let metadata = metadata
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Redaction::new(&component, &metadata.collect(), &catalog)
    }

    fn said(metadata: &[(&str, &str)], text: &str) -> String {
        let error = anyhow!("{text}").context("cannot open");
        format!("{:#}", redaction(metadata).apply(error))
    }

    #[test]
    fn what_is_secret_is_taken_out() {
        let metadata = [
            ("RedisHost", "redis://me:pass:word@host/1"),
            ("redispassword", "hunter2"),
            ("maxRetries", "three"),
        ];
        for (text, wanted) in [
            ("no route", "cannot open: no route"),
            ("bad maxRetries three", "cannot open: bad maxRetries three"),
            (
                "AUTH hunter2 failed, hunter2",
                "cannot open: AUTH [redacted] failed, [redacted]",
            ),
            (
                "redis://me:pass:word@host/1 is down",
                "cannot open: [redacted] is down",
            ),
            (
                "bad password pass:word",
                "cannot open: bad password [redacted]",
            ),
        ] {
            assert_eq!(said(&metadata, text), wanted);
        }
    }

    #[test]
    fn short_values_and_lines_of_long_ones() {
        assert_eq!(
            said(&[("redisPassword", "a")], "a cat"),
            "cannot open: a cat"
        );
        let key = [("redisPassword", "-----BEGIN-----\nfirst line\n")];
        assert_eq!(
            said(&key, "not base64: first line"),
            "cannot open: not base64: [redacted]"
        );
    }
}

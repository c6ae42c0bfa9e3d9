//! Secrets from a JSON file.

use std::{collections::BTreeMap, path::PathBuf};

use async_trait::async_trait;
use component::{
    Component, Error, ErrorKind, Metadata, Result, SecretStore,
    secrets::{Capabilities, Capability, Secret},
};
use serde_json::Value;

/// Largest file, in bytes: it is held in memory.
const MAX_FILE: u64 = 16 << 20;

component::metadata! {
    /// What a file of secrets is opened with.
    pub struct Settings {
        /// The file, which holds a JSON object.
        path: PathBuf => "secretsFile";
        /// Joins the names of nested objects.
        separator: String => "nestedSeparator", default(":".to_owned());
        /// Each member of the top is a secret of several keys.
        multi_valued: bool => "multiValued";
    }
}

/// A file of secrets, read once.
pub struct LocalFile {
    secrets: BTreeMap<String, Secret>,
    multi_valued: bool,
}

impl LocalFile {
    /// Reads the file.
    ///
    /// # Errors
    /// Names the file.
    pub async fn open(metadata: &Metadata) -> Result<Self> {
        let Settings {
            path,
            separator,
            multi_valued,
        } = Settings::read(metadata)?;
        let unreadable = |error: &dyn std::fmt::Display| {
            Error::invalid_metadata("secretsFile", format!("{}: {error}", path.display()))
        };
        let size = tokio::fs::metadata(&path)
            .await
            .map_err(|error| unreadable(&error))?
            .len();
        if size > MAX_FILE {
            return Err(unreadable(&format!("is larger than {MAX_FILE} bytes")));
        }
        let text = tokio::fs::read(&path)
            .await
            .map_err(|error| unreadable(&error))?;
        let value: Value = serde_json::from_slice(&text).map_err(|error| unreadable(&error))?;
        let Value::Object(members) = value else {
            return Err(unreadable(&"does not hold a JSON object"));
        };
        let mut secrets = BTreeMap::new();
        for (name, value) in members {
            if multi_valued {
                let mut keys = Secret::new();
                match &value {
                    Value::Object(object) => {
                        for (key, value) in object {
                            flatten(key, value, &separator, &mut keys);
                        }
                    }
                    other => flatten(&name, other, &separator, &mut keys),
                }
                secrets.insert(name, keys);
            } else {
                let mut keys = Secret::new();
                flatten(&name, &value, &separator, &mut keys);
                secrets.extend(keys.into_iter().map(|(key, value)| {
                    let secret = Secret::from([(key.clone(), value)]);
                    (key, secret)
                }));
            }
        }
        Ok(Self {
            secrets,
            multi_valued,
        })
    }
}

/// Names of nested values are joined; arrays count their elements.
fn flatten(name: &str, value: &Value, separator: &str, into: &mut Secret) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                flatten(&format!("{name}{separator}{key}"), value, separator, into);
            }
        }
        Value::Array(elements) => {
            for (index, value) in elements.iter().enumerate() {
                flatten(&format!("{name}{separator}{index}"), value, separator, into);
            }
        }
        Value::String(text) => {
            into.insert(name.to_owned(), text.clone());
        }
        Value::Null => {
            into.insert(name.to_owned(), String::new());
        }
        other => {
            into.insert(name.to_owned(), other.to_string());
        }
    }
}

impl Component for LocalFile {}

#[async_trait]
impl SecretStore for LocalFile {
    fn capabilities(&self) -> Capabilities {
        let several = self.multi_valued;
        several
            .then_some(Capability::MultipleKeyValuesPerSecret)
            .into_iter()
            .collect()
    }

    async fn secret(&self, name: &str, _: &BTreeMap<String, String>) -> Result<Secret> {
        self.secrets
            .get(name)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("secret {name} not found")))
    }

    async fn all(&self, _: &BTreeMap<String, String>) -> Result<BTreeMap<String, Secret>> {
        Ok(self.secrets.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(text: &str, fields: &[(&str, &str)]) -> Result<LocalFile> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let mut all = vec![("secretsFile", path.as_str())];
        all.extend_from_slice(fields);
        LocalFile::open(&Metadata::from_iter(all)).await
    }

    #[tokio::test]
    async fn nested_names_are_joined() {
        let text = r#"{"a": {"b": "1", "c": [true, "x"]}, "d": 2}"#;
        let store = open(text, &[]).await.unwrap();
        let secret = store.secret("a:c:0", &BTreeMap::new()).await.unwrap();
        assert_eq!(secret, Secret::from([("a:c:0".into(), "true".into())]));
        assert_eq!(store.all(&BTreeMap::new()).await.unwrap().len(), 4);
        let error = store.secret("a", &BTreeMap::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_secret_may_have_several_keys() {
        let text = r#"{"a": {"b": "1", "c": "2"}, "d": "3"}"#;
        let store = open(text, &[("multiValued", "true")]).await.unwrap();
        let secret = store.secret("a", &BTreeMap::new()).await.unwrap();
        assert_eq!(secret.len(), 2);
        assert_eq!(store.secret("d", &BTreeMap::new()).await.unwrap()["d"], "3");
    }

    #[tokio::test]
    async fn a_broken_file_is_named() {
        let error = open("[1]", &[]).await.err().unwrap();
        assert!(error.to_string().contains("secretsFile"), "{error}");
        let absent = Metadata::from_iter([("secretsFile", "/nonexistent/file")]);
        let error = LocalFile::open(&absent).await.err().unwrap();
        assert!(error.to_string().contains("/nonexistent/file"), "{error}");
    }
}

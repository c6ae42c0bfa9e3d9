//! Who is meant: an app, an app of another namespace, an HTTPEndpoint, or a URL.

use http::Uri;

use crate::{Error, endpoints::Endpoints};

/// A callee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    App {
        app_id: String,
        namespace: String,
    },
    /// Outside of Dapr; `endpoint` names the resource, if there is one.
    Url {
        url: Uri,
        endpoint: Option<String>,
    },
}

impl Target {
    /// Reads what callers write: a URL, the name of an HTTPEndpoint, `app`, or `app.namespace`.
    pub fn parse(text: &str, own_namespace: &str, endpoints: &Endpoints) -> Result<Self, Error> {
        let invalid = || Error::Target(text.to_owned());
        if text.starts_with("http://") || text.starts_with("https://") {
            let url = text.parse().map_err(|_| invalid())?;
            return Ok(Self::Url {
                url,
                endpoint: None,
            });
        }
        if let Some(url) = endpoints.url(text) {
            return Ok(Self::Url {
                url,
                endpoint: Some(text.to_owned()),
            });
        }
        let (app_id, namespace) = match text.split_once('.') {
            None => (text, own_namespace),
            Some((app_id, namespace)) if !namespace.contains('.') => (app_id, namespace),
            Some(_) => return Err(invalid()),
        };
        if app_id.is_empty() {
            return Err(invalid());
        }
        Ok(Self::App {
            app_id: app_id.to_owned(),
            namespace: namespace.to_owned(),
        })
    }

    pub const fn is_app(&self) -> bool {
        matches!(self, Self::App { .. })
    }

    pub fn app_id(&self) -> &str {
        match self {
            Self::App { app_id, .. } => app_id,
            Self::Url { endpoint, .. } => endpoint.as_deref().unwrap_or_default(),
        }
    }

    pub fn namespace(&self) -> &str {
        match self {
            Self::App { namespace, .. } => namespace,
            Self::Url { .. } => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(String, String)> {
        let endpoints = Endpoints::load(&[]).0;
        match Target::parse(text, "own", &endpoints).ok()? {
            Target::App { app_id, namespace } => Some((app_id, namespace)),
            Target::Url { url, .. } => Some((url.to_string(), String::new())),
        }
    }

    #[test]
    fn an_app_may_name_its_namespace() {
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(parse("app"), pair("app", "own"));
        assert_eq!(parse("app.other"), pair("app", "other"));
        assert_eq!(parse("http://host:1"), pair("http://host:1/", ""));
        assert_eq!(parse("a.b.c"), None);
        assert_eq!(parse(""), None);
    }
}

//! Which secrets an app may read (contract 10.5).

use macro_rules_attribute::apply;

use crate::{lenient, object::object};

/// Which secrets the app may read.
#[apply(object)]
pub struct Secrets {
    /// Rules, one per secret store.
    #[serde_with(skip_apply)]
    #[serde(deserialize_with = "lenient::or_default")]
    pub scopes: Vec<SecretScope>,
}

/// What the app may read from one secret store.
#[apply(object)]
pub struct SecretScope {
    /// Name of the secret store component.
    pub store_name: String,
    /// `allow` or `deny` for secrets that are not listed; allow when left out.
    pub default_access: Option<String>,
    /// If not empty, the only secrets that may be read.
    pub allowed_secrets: Vec<String>,
    /// Secrets that may not be read.
    pub denied_secrets: Vec<String>,
}

/// What is wrong with secret scopes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Two scopes name the same store.
    #[error("secret store {0:?} stands in more than one of spec.secrets.scopes")]
    Repeated(String),
    /// A default access is neither `allow` nor `deny`.
    #[error("defaultAccess {access:?} of secret store {store:?} is neither allow nor deny")]
    Access {
        /// Name of the store.
        store: String,
        /// What was written.
        access: String,
    },
}

impl Secrets {
    /// Whether a secret may be read from a store; a store without scope is open.
    pub fn allows(&self, store: &str, secret: &str) -> bool {
        let scope = self.scopes.iter().find(|scope| scope.store_name == store);
        scope.is_none_or(|scope| scope.allows(secret))
    }

    /// Checks that no store stands twice and that default accesses are known words.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (index, scope) in self.scopes.iter().enumerate() {
            let store = &scope.store_name;
            if self.scopes[..index]
                .iter()
                .any(|earlier| earlier.store_name == *store)
            {
                return Err(Error::Repeated(store.clone()));
            }
            if let Some(access) = &scope.default_access
                && !access.eq_ignore_ascii_case("allow")
                && !access.eq_ignore_ascii_case("deny")
            {
                return Err(Error::Access {
                    store: store.clone(),
                    access: access.clone(),
                });
            }
        }
        Ok(())
    }
}

impl SecretScope {
    /// Whether a secret may be read: a list of allowed secrets decides alone, then denied secrets,
    /// then the default.
    pub fn allows(&self, secret: &str) -> bool {
        if !self.allowed_secrets.is_empty() {
            return self.allowed_secrets.iter().any(|allowed| allowed == secret);
        }
        let denied = self.denied_secrets.iter().any(|denied| denied == secret);
        let closed = self
            .default_access
            .as_deref()
            .is_some_and(|access| access.eq_ignore_ascii_case("deny"));
        !denied && !closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(access: Option<&str>, allowed: &[&str], denied: &[&str]) -> SecretScope {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        SecretScope {
            store_name: "vault".into(),
            default_access: access.map(str::to_owned),
            allowed_secrets: owned(allowed),
            denied_secrets: owned(denied),
        }
    }

    #[test]
    fn allowed_secrets_decide_alone() {
        assert!(scope(None, &[], &[]).allows("a"));
        assert!(!scope(Some("DENY"), &[], &[]).allows("a"));
        assert!(!scope(None, &[], &["a"]).allows("a"));
        assert!(scope(None, &[], &["a"]).allows("b"));
        assert!(scope(Some("deny"), &["a"], &["a"]).allows("a"));
        assert!(!scope(Some("allow"), &["a"], &[]).allows("b"));
    }

    #[test]
    fn scopes_are_checked() {
        let two = Secrets {
            scopes: vec![scope(None, &[], &[]), scope(None, &[], &[])],
        };
        assert_eq!(two.check(), Err(Error::Repeated("vault".into())));
        let odd = Secrets {
            scopes: vec![scope(Some("maybe"), &[], &[])],
        };
        assert!(matches!(odd.check(), Err(Error::Access { .. })));
        assert_eq!(
            Secrets {
                scopes: vec![scope(Some("Allow"), &[], &[])]
            }
            .check(),
            Ok(())
        );
    }
}

//! What a store can do, from the features that it declares.

use component::state::{
    Capabilities,
    Capability::{Etag, QueryApi, Transactional, Ttl},
};

use crate::handle::declared;

/// Declared features as capabilities. Features that this protocol has no call for do not count.
///
/// Compat: Q-pluggable-query: a query is passed on whatever the store declares; one that cannot answer it says so itself.
pub fn of(features: &[String]) -> Capabilities {
    let all: Capabilities = declared(features);
    let usable = all
        .iter()
        .filter(|one| [Etag, Transactional, Ttl].contains(one));
    usable.chain([QueryApi]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_features_and_no_others() {
        let features = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            of(&names)
        };
        assert_eq!(features(&["DELETE_WITH_PREFIX"]), [QueryApi].into());
        assert_eq!(
            features(&["ttl", "Etag", "?"]),
            [Etag, Ttl, QueryApi].into()
        );
        assert_eq!(
            features(&["TRANSACTIONAL"]),
            [Transactional, QueryApi].into()
        );
    }
}

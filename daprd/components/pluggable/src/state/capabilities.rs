//! What a store can do, from the features that it declares.

use component::{
    capabilities::Capability as _,
    state::{
        Capabilities,
        Capability::{Etag, QueryApi, Transactional, Ttl},
    },
};

/// Declared features as capabilities. Features that this protocol has no call for do not count, and names are taken in
/// any case.
///
/// Compat: Q-pluggable-query: a query is passed on whatever the store declares; one that cannot answer it says so itself.
pub fn of(features: &[String]) -> Capabilities {
    let declared = [Etag, Transactional, Ttl].into_iter().filter(|capability| {
        let mut names = features.iter();
        names.any(|name| name.eq_ignore_ascii_case(capability.name()))
    });
    declared.chain([QueryApi]).collect()
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

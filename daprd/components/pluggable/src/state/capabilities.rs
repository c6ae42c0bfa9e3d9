//! What a store can do, from the features that it declares.

use component::state::Capability::{self, Etag, QueryApi, Transactional, Ttl};

/// Declared features as capabilities. Features that this protocol has no call for do not count, and names are taken in
/// any case.
///
/// Compat: Q-pluggable-query: a query is passed on whatever the store declares; one that cannot answer it says so itself.
pub fn of(features: &[String]) -> &'static [Capability] {
    let has = |capability: Capability| {
        let mut names = features.iter();
        names.any(|name| name.eq_ignore_ascii_case(capability.name()))
    };
    match (has(Etag), has(Transactional), has(Ttl)) {
        (false, false, false) => &[QueryApi],
        (false, false, true) => &[QueryApi, Ttl],
        (false, true, false) => &[Transactional, QueryApi],
        (false, true, true) => &[Transactional, QueryApi, Ttl],
        (true, false, false) => &[Etag, QueryApi],
        (true, false, true) => &[Etag, QueryApi, Ttl],
        (true, true, false) => &[Etag, Transactional, QueryApi],
        (true, true, true) => &[Etag, Transactional, QueryApi, Ttl],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_features_and_no_others() {
        for bits in 0..8 {
            let declared: Vec<Capability> = [Etag, Transactional, Ttl]
                .into_iter()
                .enumerate()
                .filter(|(bit, _)| bits & (1 << bit) != 0)
                .map(|(_, capability)| capability)
                .collect();
            let mut features: Vec<String> = declared
                .iter()
                .map(|capability| capability.name().to_owned())
                .collect();
            features.push("DELETE_WITH_PREFIX".to_owned());
            let mut found = of(&features).to_vec();
            found.retain(|capability| *capability != QueryApi);
            assert_eq!(found, declared);
            assert!(of(&features).contains(&QueryApi));
        }
    }
}

//! Finds the operation behind a method and a path. Built once from the operations table.

use std::collections::BTreeMap;

use crate::{
    http::Codec,
    operations::{Operation, Route},
};

/// The routes of one server.
pub struct Routes {
    by_path: matchit::Router<BTreeMap<&'static str, Target>>,
}

#[derive(Clone)]
struct Target {
    operation: &'static Operation,
    codec: Codec,
}

/// A found route; parameters are still escaped.
pub struct Matched<'p> {
    pub operation: &'static Operation,
    pub codec: Codec,
    pub params: Vec<(&'p str, &'p str)>,
}

impl Routes {
    /// The routes of `operations` that `allowed` lets in; one that is denied is not there at all.
    pub fn new(
        operations: impl Iterator<Item = &'static Operation>,
        allowed: &dyn Fn(&Operation, &Route) -> bool,
    ) -> Self {
        let mut paths: BTreeMap<&'static str, BTreeMap<&'static str, Target>> = BTreeMap::new();
        for operation in operations {
            for route in operation
                .routes
                .iter()
                .filter(|route| allowed(operation, route))
            {
                let targets = paths.entry(route.path).or_default();
                for method in route.methods {
                    let target = Target {
                        operation,
                        codec: route.codec,
                    };
                    targets.insert(method, target);
                }
            }
        }
        let mut by_path = matchit::Router::new();
        for (path, targets) in paths {
            by_path
                .insert(path, targets)
                .expect("the paths of the operations table do not conflict");
        }
        Self { by_path }
    }

    /// The route of a request, if there is one.
    pub fn find<'p>(&'p self, method: &str, path: &'p str) -> Option<Matched<'p>> {
        let found = self.by_path.at(path).ok()?;
        let target = found.value.get(method).or_else(|| found.value.get("*"))?;
        Some(Matched {
            operation: target.operation,
            codec: target.codec,
            params: found.params.iter().collect(),
        })
    }
}

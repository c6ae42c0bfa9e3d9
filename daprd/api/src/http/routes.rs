//! Finds the operation behind a method and a path. Built once from the operations table.

use std::collections::BTreeMap;

use crate::{
    http::Codec,
    operations::{Operation, Route},
};

/// The routes of one server.
pub struct Routes {
    /// A router for each method: what stands literally in a path under one method is a parameter's value under the others.
    by_method: BTreeMap<&'static str, matchit::Router<Target>>,
}

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
        let mut by_method: BTreeMap<&'static str, matchit::Router<Target>> = BTreeMap::new();
        for operation in operations {
            for route in operation
                .routes
                .iter()
                .filter(|route| allowed(operation, route))
            {
                for method in route.methods {
                    let target = Target {
                        operation,
                        codec: route.codec,
                    };
                    by_method
                        .entry(method)
                        .or_default()
                        .insert(route.path, target)
                        .expect("the paths of the operations table do not conflict");
                }
            }
        }
        Self { by_method }
    }

    /// The route of a request, if there is one.
    pub fn find<'p>(&'p self, method: &str, path: &'p str) -> Option<Matched<'p>> {
        let found = self.by_method.get(method)?.at(path).ok()?;
        Some(Matched {
            operation: found.value.operation,
            codec: found.value.codec,
            params: found.params.iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::operations;

    fn routes() -> impl Iterator<Item = (&'static str, &'static Route)> {
        operations::all().flat_map(|operation| {
            let routes = operation.routes.iter();
            routes.map(move |route| (operation.name, route))
        })
    }

    fn is_literal(segment: &str) -> bool {
        !segment.starts_with('{')
    }

    /// How well a pattern fits, segment by segment: literals are better, and earlier ones count more.
    fn fit(pattern: &str, path: &str) -> Option<Vec<bool>> {
        let mut segments = path.split('/');
        let mut literal = Vec::new();
        for part in pattern.split('/') {
            let segment = segments.next()?;
            match part {
                rest if rest.starts_with("{*") => {
                    literal.push(false);
                    return Some(literal);
                }
                parameter if !is_literal(parameter) => literal.push(false),
                same if same == segment => literal.push(true),
                _ => return None,
            }
        }
        segments.next().is_none().then_some(literal)
    }

    /// The operation that a reading of the table gives, one route after the other.
    fn expected(method: &str, path: &str) -> Option<&'static str> {
        routes()
            .filter(|(_, route)| route.methods.contains(&method))
            .filter_map(|(name, route)| Some((fit(route.path, path)?, name)))
            .max()
            .map(|(_, name)| name)
    }

    /// Each route with each word that stands literally anywhere in the table in place of each of its parameters, and each
    /// method of the table.
    #[test]
    fn a_word_of_one_route_is_a_name_in_all_others() {
        let server = Routes::new(operations::all(), &|_, _| true);
        let words: BTreeSet<&str> = routes()
            .flat_map(|(_, route)| route.path.split('/').filter(|part| is_literal(part)))
            .filter(|word| !word.is_empty())
            .collect();
        let methods: BTreeSet<&str> = routes()
            .flat_map(|(_, route)| route.methods.iter().copied())
            .collect();
        let mut found = 0;
        for (_, route) in routes() {
            let parts: Vec<&str> = route.path.split('/').collect();
            for at in (0..parts.len()).filter(|at| !is_literal(parts[*at])) {
                for word in &words {
                    let segments = parts.iter().enumerate().map(|(index, part)| match *part {
                        _ if index == at => word,
                        part if is_literal(part) => part,
                        _ => "x",
                    });
                    let path = segments.collect::<Vec<_>>().join("/");
                    for method in &methods {
                        let name = server.find(method, &path).map(|found| found.operation.name);
                        assert_eq!(name, expected(method, &path), "{method} {path}");
                        found += usize::from(name.is_some());
                    }
                }
            }
        }
        assert!(found > words.len(), "the table was not walked");
    }

    #[test]
    fn a_key_may_be_called_as_an_operation_is() {
        let server = Routes::new(operations::all(), &|_, _| true);
        for (method, word, name) in [
            ("GET", "bulk", "GetState"),
            ("DELETE", "bulk", "DeleteState"),
            ("GET", "transaction", "GetState"),
            ("POST", "bulk", "GetBulkState"),
        ] {
            let path = format!("/v1.0/state/store/{word}");
            let found = server.find(method, &path).unwrap();
            assert_eq!(found.operation.name, name, "{method} {path}");
        }
        assert!(server.find("PATCH", "/v1.0/state/store/bulk").is_none());
    }
}

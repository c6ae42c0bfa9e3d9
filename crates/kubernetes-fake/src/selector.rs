//! Selectors of labels and fields, as far as clients here use them: `k`, `!k`, `k=v`, `k==v`, `k!=v`.

use serde_json::Value;

use crate::request::Seen;

/// What a list or a watch is limited to.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    namespace: Option<String>,
    labels: Vec<Term>,
    fields: Vec<Term>,
}

#[derive(Clone, Debug)]
enum Term {
    Has(String),
    Lacks(String),
    Is(String, String),
    IsNot(String, String),
}

impl Selector {
    pub fn new(seen: &Seen, namespace: Option<&str>, name: Option<&str>) -> Self {
        let terms = |name| {
            let text: &str = seen.parameter(name).unwrap_or_default();
            text.split(',').filter_map(Term::parse).collect()
        };
        let mut fields: Vec<Term> = terms("fieldSelector");
        fields.extend(name.map(|name| Term::Is("metadata.name".to_owned(), name.to_owned())));
        Self {
            namespace: namespace.map(str::to_owned),
            labels: terms("labelSelector"),
            fields,
        }
    }

    pub fn matches(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let here = self
            .namespace
            .as_deref()
            .is_none_or(|namespace| metadata["namespace"] == namespace);
        let label = |key: &str| metadata["labels"].get(key).and_then(Value::as_str);
        let field = |key: &str| {
            let pointer = format!("/{}", key.replace('.', "/"));
            object.pointer(&pointer).and_then(Value::as_str)
        };
        here && self.labels.iter().all(|term| term.holds(label))
            && self.fields.iter().all(|term| term.holds(field))
    }
}

impl Term {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let own = |text: &str| text.trim().trim_start_matches('=').to_owned();
        if text.is_empty() {
            return None;
        }
        Some(if let Some((key, value)) = text.split_once("!=") {
            Self::IsNot(own(key), own(value))
        } else if let Some((key, value)) = text.split_once('=') {
            Self::Is(own(key), own(value))
        } else if let Some(key) = text.strip_prefix('!') {
            Self::Lacks(own(key))
        } else {
            Self::Has(own(text))
        })
    }

    fn holds<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::Has(key) => value(key).is_some(),
            Self::Lacks(key) => value(key).is_none(),
            Self::Is(key, wanted) => value(key) == Some(wanted),
            Self::IsNot(key, wanted) => value(key) != Some(wanted),
        }
    }
}

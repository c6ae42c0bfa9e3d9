//! The variables of one evaluation, converted once per event and borrowed by every expression after that.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cel::Value;
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::objects::{Key, Map};

/// Named values an expression can read. Build it once per event, then use it for all rules.
#[derive(Default)]
pub struct Variables {
    // A handful of names: a scan is cheaper than a map.
    entries: Vec<(String, Box<dyn Val>)>,
}

impl Variables {
    /// One variable, `name`, that holds a JSON value; routing uses the name `event` and the CloudEvent.
    pub fn event(name: &str, value: &serde_json::Value) -> Self {
        let mut variables = Self::default();
        variables.set(name, from_json(value));
        variables
    }

    /// Integer variables, such as the counters of a circuit breaker.
    pub fn integers<'a>(entries: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        let mut variables = Self::default();
        for (name, value) in entries {
            variables.set(name, Value::Int(value));
        }
        variables
    }

    /// Adds or replaces one JSON value.
    #[must_use]
    pub fn with(mut self, name: &str, value: &serde_json::Value) -> Self {
        self.set(name, from_json(value));
        self
    }

    fn set(&mut self, name: &str, value: Value) {
        // Only functions and opaque values have no counterpart, and neither is built here.
        let Ok(value) = Box::<dyn Val>::try_from(value) else {
            return;
        };
        match self.entries.iter_mut().find(|(known, _)| known == name) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name.to_owned(), value)),
        }
    }
}

impl VariableResolver for Variables {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        self.entries
            .iter()
            .find(|(name, _)| name == variable)
            .map(|(_, value)| CowVal::Borrowed(value.as_ref()))
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.entries.iter().map(|(name, _)| name))
            .finish()
    }
}

/// Depth is bounded by serde_json, which refuses to parse more than 128 levels.
fn from_json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        // Compat: Q-cel-numbers. Numbers of an event are doubles, whole or not, so that `x / 2.0` works for
        // a whole x exactly as it always has.
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Value::String(Arc::new(text.clone())),
        serde_json::Value::Array(items) => {
            Value::List(Arc::new(items.iter().map(from_json).collect()))
        }
        serde_json::Value::Object(members) => {
            let map: HashMap<Key, Value> = members
                .iter()
                .map(|(key, value)| (Key::String(Arc::new(key.clone())), from_json(value)))
                .collect();
            Value::Map(Map { map: Arc::new(map) })
        }
    }
}

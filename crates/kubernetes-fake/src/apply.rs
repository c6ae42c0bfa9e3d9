//! Whose the fields of an object are, and server-side apply (structured merge): what an applier says is merged, what it says no
//! more goes, and what another one has said differently is a conflict. Without schemas: a list is one field, unless its name
//! says by what its items are known.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// How a field was written: applied, or in any other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Apply,
    Update,
}

/// Steps from the object to a field; an item of a list is `[key=value]`.
type Path = Vec<String>;

/// The fields of each who has written some.
#[derive(Clone, Debug, Default)]
pub struct Owners(BTreeMap<(String, Operation), BTreeSet<Path>>);

/// Lists whose items are known by a member.
const KEYS: [(&str, &str); 5] = [
    ("webhooks", "name"),
    ("ports", "port"),
    ("ownerReferences", "uid"),
    ("containers", "name"),
    ("conditions", "type"),
];

/// What names an object is nobody's.
const NOBODYS: [&str; 10] = [
    "apiVersion",
    "kind",
    "metadata/name",
    "metadata/namespace",
    "metadata/uid",
    "metadata/resourceVersion",
    "metadata/generation",
    "metadata/creationTimestamp",
    "metadata/managedFields",
    "metadata/generateName",
];

impl Owners {
    /// Notes a write that is no apply: `manager` has what it changed, and what is gone is nobody's.
    pub fn updated(&mut self, manager: &str, before: &Value, after: &Value) {
        let (before, after) = (leaves(before), leaves(after));
        let changed: BTreeSet<Path> = after
            .iter()
            .filter(|(path, value)| before.get(*path) != Some(value))
            .map(|(path, _)| path.clone())
            .collect();
        for fields in self.0.values_mut() {
            fields.retain(|path| after.contains_key(path) && !changed.contains(path));
        }
        let own = self.0.entry((manager.to_owned(), Operation::Update));
        own.or_default().extend(changed);
        self.0.retain(|_, fields| !fields.is_empty());
    }

    /// The object there after an apply; who has other plans with its fields, if that is not to be forced.
    pub fn applied(
        &mut self,
        manager: &str,
        there: &Value,
        wanted: &Value,
        force: bool,
    ) -> Result<Value, String> {
        let (now, said) = (leaves(there), leaves(wanted));
        let own = (manager.to_owned(), Operation::Apply);
        let differs = |path: &Path| now.contains_key(path) && now.get(path) != said.get(path);
        let mut conflicts = Vec::new();
        for (owner, fields) in self.0.iter_mut().filter(|(owner, _)| **owner != own) {
            let theirs: Vec<Path> = fields
                .iter()
                .filter(|path| said.contains_key(*path) && differs(path))
                .cloned()
                .collect();
            for path in theirs {
                conflicts.push(format!("conflict with {:?}: .{}", owner.0, path.join(".")));
                if force {
                    fields.remove(&path);
                }
            }
        }
        if !conflicts.is_empty() && !force {
            let count = conflicts.len();
            return Err(format!(
                "Apply failed with {count} conflicts: {}",
                conflicts.join(", ")
            ));
        }
        let mut after = there.clone();
        let before = self.0.remove(&own).unwrap_or_default();
        for path in before.iter().filter(|path| !said.contains_key(*path)) {
            if !self.0.values().any(|fields| fields.contains(path)) {
                remove(&mut after, path);
            }
        }
        merge(&mut after, wanted, "");
        self.0.insert(own, said.into_keys().collect());
        self.0.retain(|_, fields| !fields.is_empty());
        Ok(after)
    }

    /// The managers of a field, written as its steps with dots between.
    pub fn of(&self, field: &str) -> Vec<String> {
        let owns = |fields: &BTreeSet<Path>| fields.iter().any(|path| path.join(".") == field);
        let managers = self.0.iter().filter(|(_, fields)| owns(fields));
        managers.map(|((manager, _), _)| manager.clone()).collect()
    }
}

fn leaves(object: &Value) -> BTreeMap<Path, &Value> {
    let mut found = BTreeMap::new();
    collect(object, &mut Vec::new(), "", &mut found);
    found
}

fn collect<'a>(
    value: &'a Value,
    path: &mut Path,
    name: &str,
    found: &mut BTreeMap<Path, &'a Value>,
) {
    if NOBODYS.contains(&path.join("/").as_str()) {
        return;
    }
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                path.push(name.clone());
                collect(member, path, name, found);
                path.pop();
            }
        }
        Value::Array(items) if is_keyed(items, name) => {
            for item in items {
                path.push(step(item, name));
                collect(item, path, "", found);
                path.pop();
            }
        }
        _ if path.is_empty() => {}
        _ => {
            found.insert(path.clone(), value);
        }
    }
}

fn key_of(name: &str) -> Option<&'static str> {
    let found = KEYS.iter().find(|(list, _)| *list == name);
    found.map(|(_, key)| *key)
}

fn is_keyed(items: &[Value], name: &str) -> bool {
    let keyed = |key| items.iter().all(|item| !item[key].is_null());
    !items.is_empty() && key_of(name).is_some_and(keyed)
}

fn step(item: &Value, name: &str) -> String {
    let key = key_of(name).unwrap_or_default();
    let value = item[key]
        .as_str()
        .map_or_else(|| item[key].to_string(), str::to_owned);
    format!("[{key}={value}]")
}

fn merge(there: &mut Value, wanted: &Value, name: &str) {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            for (name, value) in wanted {
                merge(
                    there.entry(name.clone()).or_insert(Value::Null),
                    value,
                    name,
                );
            }
        }
        (Value::Array(there), Value::Array(wanted)) if is_keyed(there, name) => {
            for item in wanted {
                let same = |it: &&mut Value| step(it, name) == step(item, name);
                match there.iter_mut().find(same) {
                    Some(there) => merge(there, item, ""),
                    None => there.push(item.clone()),
                }
            }
        }
        (there, wanted) => *there = wanted.clone(),
    }
}

/// Takes a field out, and what is empty after that.
fn remove(object: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let Value::Object(members) = object else {
        return;
    };
    let Some(member) = members.get_mut(first) else {
        return;
    };
    if let (Value::Array(items), Some((item, rest))) = (&mut *member, rest.split_first())
        && item.starts_with('[')
    {
        let is_key = rest.first().map(String::as_str) == key_of(first);
        let mut same = items.iter_mut().filter(|it| step(it, first) == *item);
        if let Some(there) = same.find(|_| !is_key) {
            remove(there, rest);
        }
        // An item of which only its key is left is gone, as that was said with it.
        items
            .retain(|it| step(it, first) != *item || it.as_object().is_some_and(|it| it.len() > 1));
        return;
    }
    remove(member, rest);
    if rest.is_empty() || member.as_object().is_some_and(Map::is_empty) {
        members.remove(first);
    }
}

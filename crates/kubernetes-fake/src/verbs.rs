//! The verbs other than watch.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::State;
use crate::answer::Answer;
use crate::kinds;
use crate::request::{Seen, Target};
use crate::selector::Selector;
use crate::storage::Refused;
use crate::validation;

/// Carries a request out.
pub fn answer(state: &mut State, seen: &Seen, target: &Target) -> Answer {
    if !state.storage.is_known(&target.collection) {
        return Answer::status(404);
    }
    let result = match seen.verb.as_str() {
        "list" => Ok(list(state, seen, target)),
        "get" => {
            get(state, target).map(|object| Answer::object(shown(&object, seen.metadata_only)))
        }
        "create" if target.subresource.as_deref() == Some("eviction") => evict(state, seen, target),
        "create" => create(state, seen, target),
        "update" => write(state, seen.body.clone(), (seen, target)),
        "patch" => patch(state, seen, target),
        "delete" => delete(state, &seen.body, target),
        _ => Ok(Answer::status(405)),
    };
    result.unwrap_or_else(|refused| match refused {
        Refused::Missing => Answer::status(404),
        Refused::Exists => Answer::failure(409, "AlreadyExists", "it exists already"),
        Refused::Conflict => Answer::status(409),
        Refused::Managers(said) => Answer::failure(409, "Conflict", &said),
    })
}

/// An object as a client asked for it.
pub fn shown(object: &Value, metadata_only: bool) -> Value {
    if metadata_only {
        return json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"],
        });
    }
    object.clone()
}

fn list(state: &mut State, seen: &Seen, target: &Target) -> Answer {
    let storage = &mut state.storage;
    let (version, mut items) = match seen.parameter("continue") {
        Some(token) => match storage.take_page(token) {
            Some(page) => page,
            None => return Answer::failure(410, "Expired", "the continue token is too old"),
        },
        None => {
            let selector = Selector::new(seen, target.namespace.as_deref(), None);
            let matching = storage
                .list(&target.collection)
                .filter(|it| selector.matches(it));
            let items: VecDeque<Value> = matching.cloned().collect();
            (storage.version(), items)
        }
    };
    let limit = seen.parameter("limit").and_then(|it| it.parse().ok());
    let rest = items.split_off(limit.unwrap_or(items.len()).min(items.len()));
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if !rest.is_empty() {
        metadata["continue"] = json!(storage.keep_page(version, rest));
    }
    let items: Vec<Value> = items
        .iter()
        .map(|it| shown(it, seen.metadata_only))
        .collect();
    let kind = kinds::list(&target.api_version, &target.plural);
    Answer::object(json!({
        "apiVersion": target.api_version, "kind": kind, "metadata": metadata, "items": items,
    }))
}

fn get(state: &State, target: &Target) -> Result<Value, Refused> {
    let name = target.name.as_deref().unwrap_or_default();
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let found = state.storage.get(&target.collection, namespace, name);
    found.cloned().ok_or(Refused::Missing)
}

fn create(state: &mut State, seen: &Seen, target: &Target) -> Result<Answer, Refused> {
    let mut object = seen.body.clone();
    if let Some(refusal) = admission(state, &mut object, target) {
        return Ok(refusal);
    }
    let object = state
        .storage
        .create(&target.collection, object, manager(seen))?;
    Ok(Answer {
        code: 201,
        body: object,
    })
}

/// Who writes; clients say it, or it is taken from their name.
fn manager(seen: &Seen) -> &str {
    seen.parameter("fieldManager").unwrap_or("unknown")
}

fn write(
    state: &mut State,
    mut object: Value,
    (seen, target): (&Seen, &Target),
) -> Result<Answer, Refused> {
    if let Some(refusal) = admission(state, &mut object, target) {
        return Ok(refusal);
    }
    Ok(Answer::object(state.storage.replace(
        &target.collection,
        object,
        manager(seen),
    )?))
}

/// Names the object as the path does, shows it to whoever admits objects, and looks whether it may be stored.
fn admission(state: &State, object: &mut Value, target: &Target) -> Option<Answer> {
    if !object.is_object() {
        return Some(Answer::status(400));
    }
    if let Some(namespace) = &target.namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    if let Some(name) = &target.name {
        object["metadata"]["name"] = json!(name);
    }
    let admission = state.admission.as_ref();
    if let Some(Err(refused)) = admission.map(|admits| admits(target, object)) {
        return Some(Answer::failure(403, "Forbidden", &refused));
    }
    let invalid = validation::refusal(&target.plural, object)?;
    Some(Answer::failure(422, "Invalid", &invalid))
}

fn patch(state: &mut State, seen: &Seen, target: &Target) -> Result<Answer, Refused> {
    if seen.content_type.starts_with("application/apply-patch") {
        return apply(state, seen, target);
    }
    let mut object = get(state, target)?;
    if seen.content_type.starts_with("application/json-patch") {
        let Ok(patch) = serde_json::from_value::<json_patch::Patch>(seen.body.clone()) else {
            return Ok(Answer::status(400));
        };
        if json_patch::patch(&mut object, &patch).is_err() {
            return Ok(Answer::status(422));
        }
    } else {
        json_patch::merge(&mut object, &seen.body);
    }
    let written = write(state, object, (seen, target))?;
    Ok(Answer {
        body: shown(&written.body, seen.metadata_only),
        ..written
    })
}

/// Server-side apply, which creates what is not there.
fn apply(state: &mut State, seen: &Seen, target: &Target) -> Result<Answer, Refused> {
    let Some(manager) = seen.parameter("fieldManager") else {
        return Ok(Answer::failure(
            400,
            "BadRequest",
            "fieldManager is required",
        ));
    };
    let mut wanted = seen.body.clone();
    if !wanted.is_object() {
        return Ok(Answer::status(400));
    }
    if let Some(namespace) = &target.namespace {
        wanted["metadata"]["namespace"] = json!(namespace);
    }
    wanted["metadata"]["name"] = json!(target.name);
    let there = get(state, target).ok();
    let version = &wanted["metadata"]["resourceVersion"];
    let is_stale = |there: &Value| there["metadata"]["resourceVersion"] != *version;
    if !version.is_null() && there.as_ref().is_none_or(is_stale) {
        return Err(Refused::Conflict);
    }
    let force = seen.parameter("force") == Some("true");
    let by = (manager, force);
    let (mut object, owners) = state.storage.preview(&target.collection, &wanted, by)?;
    if let Some(refusal) = admission(state, &mut object, target) {
        return Ok(refusal);
    }
    let applied = state.storage.apply(&target.collection, object, owners)?;
    Ok(Answer {
        code: if there.is_some() { 200 } else { 201 },
        body: shown(&applied, seen.metadata_only),
    })
}

fn delete(state: &mut State, options: &Value, target: &Target) -> Result<Answer, Refused> {
    let there = get(state, target)?;
    for (precondition, member) in [("uid", "uid"), ("resourceVersion", "resourceVersion")] {
        let wanted = &options["preconditions"][precondition];
        if !wanted.is_null() && *wanted != there["metadata"][member] {
            return Err(Refused::Conflict);
        }
    }
    let name = target.name.as_deref().unwrap_or_default();
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let gone = state.storage.remove(&target.collection, namespace, name);
    gone.map(Answer::object).ok_or(Refused::Missing)
}

fn evict(state: &mut State, seen: &Seen, target: &Target) -> Result<Answer, Refused> {
    delete(state, &seen.body["deleteOptions"], target)?;
    Ok(Answer {
        code: 201,
        body: json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    })
}

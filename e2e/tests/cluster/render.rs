//! The chart as Helm renders it, without a cluster, and what is looked for in it.

use serde_json::Value;

use crate::installation::{SYSTEM, chart};
use crate::kube::run;

/// Renders the chart with a text of values and more arguments of `helm template`.
pub async fn try_render(values: &str, more: &[&str]) -> Result<Vec<Value>, String> {
    let chart = chart();
    let mut args = vec!["template", "dapr", &chart, "-n", SYSTEM, "-f", "-"];
    args.extend(more);
    let text = run("helm", &args, values).await?;
    let documents = text
        .split("\n---\n")
        .map(|text| text.trim_start_matches("---\n"));
    let objects = documents.filter_map(|text| {
        let object: Value = serde_saphyr::from_str(text)
            .unwrap_or_else(|error| panic!("what is rendered is no YAML: {error}\n{text}"));
        object.is_object().then_some(object)
    });
    Ok(objects.collect())
}

/// Renders the chart with a text of values.
pub async fn render(values: &str) -> Vec<Value> {
    render_with(values, &[]).await
}

pub async fn render_with(values: &str, more: &[&str]) -> Vec<Value> {
    let rendered = try_render(values, more).await;
    rendered.unwrap_or_else(|said| panic!("{said}"))
}

/// Why the chart refuses these values.
pub async fn refused(values: &str) -> String {
    match try_render(values, &[]).await {
        Ok(_) => panic!("these values were taken: {values}"),
        Err(said) => said,
    }
}

pub fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

/// An object that has to be there.
pub fn the<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    find(objects, kind, name).unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// Whether Helm makes the object on an occasion only.
pub fn is_hook(object: &Value) -> bool {
    object["metadata"]["annotations"]["helm.sh/hook"].is_string()
}

/// What makes pods, hooks included.
pub fn workloads(objects: &[Value]) -> impl Iterator<Item = &Value> {
    objects
        .iter()
        .filter(|object| object["spec"]["template"]["spec"]["containers"].is_array())
}

pub fn program(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]["containers"][0]
}

pub fn arguments(workload: &Value) -> Vec<&str> {
    let args = program(workload)["args"].as_array().into_iter().flatten();
    args.filter_map(Value::as_str).collect()
}

pub fn argument<'a>(workload: &'a Value, flag: &str) -> Option<&'a str> {
    let flag = format!("--{flag}=");
    let args = arguments(workload);
    args.into_iter().find_map(|arg| arg.strip_prefix(&flag))
}

pub fn variable<'a>(workload: &'a Value, name: &str) -> Option<&'a str> {
    let all = program(workload)["env"].as_array()?;
    all.iter().find(|one| one["name"] == name)?["value"].as_str()
}

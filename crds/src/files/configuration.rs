//! Configuration files: variables replaced, merged in order, then read as one object.

use serde_json::{Map, Value, json};

use super::{Error, check_length, documents, expand, parsed, typed};
use crate::{Configuration, conform, schema};

/// Reads Configuration files and merges them in order: fields of a later file replace those of an
/// earlier one, maps are merged, lists are replaced. Defaults are those of the type's methods, so an empty
/// file (or no file) is a valid Configuration. Of each file only the first document counts. `told` gets a line for each field
/// that nobody reads.
pub fn configuration<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
    lookup: impl Fn(&str) -> Option<String>,
    mut told: impl FnMut(&str),
) -> Result<Configuration, Error> {
    let mut merged = json!({});
    let mut names = Vec::new();
    for (file, text) in files {
        check_length(file, text)?;
        let text = expand(text, &lookup);
        let first = documents(&text).into_iter().next().unwrap_or_default();
        let value = parsed(file, 1, first)?;
        // Read alone as well, so that an error names its file.
        let mut alone = normal(value);
        let (_, unknown) = typed::<Configuration>((file, 1), alone.clone())?;
        unknown.iter().for_each(|line| told(line));
        // What files call the same in different cases is one field; that it fits has just been seen.
        let _ = conform::conform(&mut alone, &schema::of::<Configuration>());
        merge(&mut merged, alone);
        names.push(file);
    }
    if names.is_empty() {
        // As most sidecars start; it spares them the schema.
        return Ok(Configuration::default());
    }
    let file = names.join(", ");
    let (configuration, _) = typed::<Configuration>((&file, 1), merged)?;
    configuration
        .spec
        .check()
        .map_err(|source| Error::Secrets { file, source })?;
    Ok(configuration)
}

/// An empty document as an empty object, and trace headers written as `name=value` as pairs.
fn normal(mut value: Value) -> Value {
    if value.is_null() {
        return json!({});
    }
    let headers = ["spec", "tracing", "otel", "headers"];
    let headers = headers
        .into_iter()
        .try_fold(&mut value, |value, name| conform::field_mut(value, name));
    if let Some(Value::Array(headers)) = headers {
        for header in headers {
            let pair = header.as_str().and_then(|text| text.split_once('='));
            if let Some((name, text)) = pair {
                *header = json!({ "name": name, "value": text });
            }
        }
    }
    value
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => merge_maps(base, over),
        (base, over) => *base = over,
    }
}

fn merge_maps(base: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match base.get_mut(&key) {
            // The settings of name resolution have no fields of ours to merge by.
            Some(slot) if key != "configuration" => merge(slot, value),
            _ => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Configuration, Error> {
        let rate = |name: &str| (name == "RATE").then(|| "0.5".to_owned());
        configuration(files.iter().copied(), rate, |_| {})
    }

    #[test]
    fn unknown_fields_are_told_with_their_file() {
        let mut told = Vec::new();
        let text = "kind: Configuration\nspec: {tracing: {samplingrate: '1', sampling: 2}}\n";
        let read = configuration(
            [("f.yaml", text)],
            |_| None,
            |line| told.push(line.to_owned()),
        );
        assert_eq!(read.unwrap().spec.effective_tracing().rate(), 1.0);
        let line = "f.yaml: document 1: Configuration \"\": unknown field spec.tracing.sampling";
        assert_eq!(told, [line]);
    }

    #[test]
    fn nothing_is_a_configuration() {
        assert_eq!(read(&[]).unwrap(), Configuration::default());
        assert_eq!(
            read(&[("empty.yaml", "")]).unwrap(),
            Configuration::default()
        );
        assert_eq!(
            read(&[("comment.yaml", "# nothing\n")]).unwrap(),
            Configuration::default()
        );
        let access = Configuration::default().spec.effective_access_control();
        assert_eq!(
            (
                access.default_action.as_deref(),
                access.trust_domain.as_deref()
            ),
            (Some("allow"), Some("public"))
        );
    }

    #[test]
    fn later_files_win_field_by_field() {
        let first = "kind: Configuration\nspec:\n  tracing:\n    samplingRate: $RATE\n    stdout: yes\n  features:\n  - {name: A, enabled: true}\n";
        let second = "spec:\n  tracing:\n    zipkin: {endpointAddress: 'http://z'}\n  features:\n  - {name: B, enabled: true}\n";
        let spec = read(&[("1.yaml", first), ("2.yaml", second)]).unwrap().spec;
        let tracing = spec.effective_tracing();
        assert_eq!(tracing.rate(), 0.5);
        assert_eq!(tracing.stdout, Some(true));
        assert_eq!(tracing.zipkin.unwrap().endpoint_address, "http://z");
        assert!(spec.feature_enabled("B") && !spec.feature_enabled("A"));
    }

    #[test]
    fn a_field_is_one_in_any_case() {
        let first = "Kind: Configuration\nSpec:\n  Tracing: {SamplingRate: '1', Otel: {Headers: ['a=b']}}\n";
        let second = "kind: Configuration\nspec:\n  tracing: {samplingRate: '0.5'}\n";
        for (files, rate) in [([first, second], 0.5), ([second, first], 1.0)] {
            let [one, two] = files;
            let spec = read(&[("1.yaml", one), ("2.yaml", two)]).unwrap().spec;
            assert_eq!(spec.effective_tracing().rate(), rate);
            let headers = spec.effective_tracing().otel.unwrap().headers;
            assert_eq!(headers[0].name, "a");
        }
    }

    #[test]
    fn headers_may_be_strings() {
        let text =
            "spec: {tracing: {samplingRate: 1, otel: {headers: ['a=b=c', {name: d, value: 1}]}}}";
        let otel = read(&[("f.yaml", text)])
            .unwrap()
            .spec
            .tracing
            .unwrap()
            .otel
            .unwrap();
        let pairs: Vec<_> = otel
            .headers
            .iter()
            .map(|pair| (pair.name.as_str(), pair.text().into_owned()))
            .collect();
        assert_eq!(pairs, [("a", "b=c".to_owned()), ("d", "1".to_owned())]);
    }

    #[test]
    fn errors_name_the_file_and_the_field() {
        let error = read(&[("ok.yaml", ""), ("bad.yaml", "spec:\n  features: on\n")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "bad.yaml: document 1: Configuration \"\" failed validation: spec.features must be array, found a boolean"
        );
        let twice = "spec: {secrets: {scopes: [{storeName: a}, {storeName: a}]}}";
        assert!(matches!(
            read(&[("s.yaml", twice)]),
            Err(Error::Secrets { .. })
        ));
        assert!(matches!(
            read(&[("y.yaml", "a: [")]),
            Err(Error::Yaml { .. })
        ));
        assert!(matches!(
            read(&[("t.yaml", "just text")]),
            Err(Error::Field { .. })
        ));
    }
}

//! `docs/components.md` is the catalog as a page. `DAPR_PRINT=1` writes it anew.

use std::{fmt::Write, path::Path};

use component::{
    catalog::Entry,
    fields::{Field, Kind},
};

use super::catalog;

const HEAD: &str = "# Components\n\n\
    What is built into daprd, printed from the declarations of the components. Names and fields are found in any case. A field\n\
    with a unit also takes a bare number of it. Fields of the runtime, which every component has (`keyPrefix`, scopes), are not\n\
    repeated. Components in processes of their own are found at their sockets, and hand on whatever they are given.\n";

fn page() -> String {
    let catalog = catalog().expect("no name is taken twice");
    let mut page = HEAD.to_owned();
    let mut kind = "";
    for entry in catalog.entries() {
        if entry.kind != kind {
            kind = entry.kind;
            let _ = write!(page, "\n## {kind}\n");
        }
        page += &section(entry);
    }
    page
}

fn section(entry: &Entry) -> String {
    let mut text = format!(
        "\n### {} {}\n\nFamily `{}`",
        entry.full_type(),
        entry.version,
        entry.family
    );
    if let [_, aliases @ ..] = &*entry.names
        && !aliases.is_empty()
    {
        let _ = write!(text, "; also called {}", code(aliases));
    }
    match entry.capabilities.as_deref() {
        None | Some([]) => {}
        Some(names) => {
            let _ = write!(text, "; capabilities {}", code(names));
        }
    }
    text += ".\n";
    let (ignored, used): (Vec<&Field>, Vec<&Field>) =
        entry.fields.iter().partition(|field| field.ignored);
    if !used.is_empty() {
        text += "\n| field | type | default | what it is |\n|---|---|---|---|\n";
        used.into_iter().for_each(|field| text += &row(field));
    }
    if !ignored.is_empty() {
        let names: Vec<&str> = ignored.iter().map(|field| field.name).collect();
        let _ = write!(text, "\nAccepted without an effect: {}.\n", code(&names));
    }
    text
}

fn row(field: &Field) -> String {
    let mut names = format!("`{}`", field.name);
    for alias in field.aliases {
        let _ = write!(names, "<br>`{alias}`");
    }
    let default = match (&field.default, field.required) {
        (Some(default), _) => format!("`{default}`"),
        (None, true) => "required".to_owned(),
        (None, false) => "-".to_owned(),
    };
    let mut about = field.about.clone();
    if field.secret {
        about += " Secret.";
    }
    if let Some(instead) = field.deprecated {
        let _ = write!(about, " Deprecated: use `{instead}`.");
    }
    format!("| {names} | {} | {default} | {about} |\n", kind(field))
}

fn kind(field: &Field) -> String {
    match field.kind {
        Kind::Text => "text".to_owned(),
        Kind::Boolean => "boolean".to_owned(),
        Kind::Integer => "integer".to_owned(),
        Kind::Number => "number".to_owned(),
        Kind::Size => "size".to_owned(),
        Kind::List => "list".to_owned(),
        Kind::OneOf(texts) => texts.join(", "),
        Kind::Duration => match field.unit {
            None => "duration".to_owned(),
            Some(unit) => format!("duration, or a number in units of {unit:?}"),
        },
    }
}

fn code(texts: &[impl AsRef<str>]) -> String {
    let texts: Vec<String> = texts
        .iter()
        .map(|text| format!("`{}`", text.as_ref()))
        .collect();
    texts.join(", ")
}

#[test]
fn the_list_of_components_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/components.md");
    if std::env::var_os("DAPR_PRINT").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page(),
        "docs/components.md is not what the catalog says: DAPR_PRINT=1 writes it anew"
    );
}

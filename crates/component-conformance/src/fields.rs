//! The suite for declarations: every field that the reference lists for a type is declared, as the type and with the default
//! that it has there, and nothing else is. Differences stand in the list, with their reason.

use component::{
    Catalog,
    catalog::Entry,
    fields::{Field, Kind},
};
use values::GoDuration;

/// The list, copied as facts.
const LIST: &str = include_str!("../data/fields.txt");

/// A line of it.
struct Row<'a> {
    component: &'a str,
    field: &'a str,
    kind: &'a str,
    default: &'a str,
    here: &'a str,
}

fn rows() -> impl Iterator<Item = Row<'static>> {
    let lines = LIST.lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let mut cells = line.splitn(5, '|').map(str::trim);
        let mut cell = || {
            let next = cells.next();
            next.unwrap_or_else(|| panic!("fields.txt: five cells, not {line}"))
        };
        Row {
            component: cell(),
            field: cell(),
            kind: cell(),
            default: cell(),
            here: cell(),
        }
    })
}

/// Compares all types of a catalog with the list.
///
/// # Panics
/// With everything that differs.
pub fn suite(catalog: &Catalog) {
    let complaints: Vec<String> = catalog.entries().flat_map(complaints).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn complaints(entry: &Entry) -> Vec<String> {
    let name = entry.full_type();
    let listed: Vec<Row<'_>> = rows().filter(|row| row.component == name).collect();
    let mut found = Vec::new();
    for row in &listed {
        let declared = entry.fields.find(row.field);
        let complaint = match declared {
            None if row.here.starts_with('-') => None,
            None => Some("is not declared".to_owned()),
            Some(_) if row.here.starts_with('-') => Some("is built, against the list".to_owned()),
            Some(field) => complaint(row, field),
        };
        found.extend(complaint.map(|complaint| format!("{name} {}: {complaint}", row.field)));
    }
    for field in entry.fields.iter() {
        if !listed.iter().any(|row| row.field == field.name) {
            found.push(format!(
                "{name} {}: declared, and not in the list",
                field.name
            ));
        }
    }
    found
}

fn complaint(row: &Row<'_>, field: &Field) -> Option<String> {
    let fits = match row.kind {
        "own" => return row.here.is_empty().then(|| "has no reason".to_owned()),
        "bool" => field.kind == Kind::Boolean,
        "number" => matches!(field.kind, Kind::Integer | Kind::Number | Kind::Size),
        "duration" => field.kind == Kind::Duration,
        "string" => field.kind != Kind::Boolean,
        other => return Some(format!("the list has a type {other}")),
    };
    if !fits {
        return Some(format!("is declared as {:?}, not {}", field.kind, row.kind));
    }
    let required = row.default == "required";
    if required != field.required {
        return Some(format!("required: {required} in the list"));
    }
    let declared = field.default.as_deref().unwrap_or_default();
    // The list is silent of many defaults.
    if required || row.default.is_empty() || same(row.default, declared) {
        let idle = !row.here.is_empty();
        return idle.then(|| "the list gives a reason for what does not differ".to_owned());
    }
    let told = row.here.split(':').next().unwrap_or_default();
    let silent = told.starts_with("has no default") && declared.is_empty();
    (!silent && !same(told, declared))
        .then(|| format!("has the default {declared:?}, not {:?}", row.default))
}

/// Whether two texts mean the same: durations have several spellings.
fn same(one: &str, other: &str) -> bool {
    let duration = |text: &str| text.parse::<GoDuration>().ok();
    one == other
        || duration(one).is_some_and(|one| duration(other).is_some_and(|other| one == other))
}

#[cfg(test)]
mod tests {
    use component::{Error, Registration};

    use super::*;

    component::metadata! {
        struct Wrong {
            secrets_file: Option<String> => "secretsFile";
            separator: String => "nestedSeparator", default(";".to_owned());
            multi_valued: u16 => "multiValued", default(0);
            other: bool => "other";
        }
    }

    #[test]
    fn what_differs_from_the_list_is_told() {
        let mut catalog = Catalog::default();
        let wrong = Registration::new("test", "local.file", Wrong::fields());
        let added = catalog
            .secrets
            .add(wrong, |_| async { Err(Error::unsupported("being opened")) });
        added.expect("the first");
        let entry = catalog.entries().next().expect("an entry");
        let told = complaints(entry).join("\n").replace(&entry.full_type(), "");
        let expected = [
            " secretsFile: required: true in the list",
            " nestedSeparator: has the default \";\", not \":\"",
            " multiValued: is declared as Integer, not bool",
            " other: declared, and not in the list",
        ];
        assert_eq!(told, expected.join("\n"));
        let none = Registration::new("test", "local.env", Default::default());
        let added = catalog
            .secrets
            .add(none, |_| async { Err(Error::unsupported("being opened")) });
        added.expect("the second");
        let entry = catalog.entries().last().expect("an entry");
        assert_eq!(
            complaints(entry),
            ["secretstores.local.env prefix: is not declared"]
        );
    }
}

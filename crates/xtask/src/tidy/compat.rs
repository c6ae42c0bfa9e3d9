//! Imitations of upstream's odd behaviour are marked `Compat:` in a comment and listed with a reason in
//! `docs/quirks.md`. Both ways are checked: no mark without a row, no row without a mention.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::tree::TextFile;

/// Where the rows stand.
const LIST: &str = "docs/quirks.md";

/// Complaints about marks without rows and rows without mentions.
pub fn complaints(files: &[TextFile]) -> Vec<String> {
    let id = Regex::new(r"\bQ-[a-z0-9]+(?:-[a-z0-9]+)*\b").expect("the pattern is fixed");
    let mut found = Vec::new();
    let rows = rows(files, &id, &mut found);
    let mut mentioned = BTreeSet::new();
    for file in files
        .iter()
        .filter(|file| file.path != LIST && !file.path.ends_with(".md"))
    {
        mentioned.extend(id.find_iter(&file.text).map(|place| place.as_str()));
        if file.is_rust() {
            of_file(file, &id, &rows, &mut found);
        }
    }
    for (row, line) in &rows {
        if !mentioned.contains(row) {
            found.push(format!("{LIST}:{line}: nothing mentions {row}"));
        }
    }
    found
}

/// The ids of the rows, with their lines: the first cell of table rows, or headings.
fn rows<'a>(
    files: &'a [TextFile],
    id: &Regex,
    found: &mut Vec<String>,
) -> BTreeMap<&'a str, usize> {
    let mut rows = BTreeMap::new();
    let Some(list) = files.iter().find(|file| file.path == LIST) else {
        return rows;
    };
    for (index, line) in list.text.lines().enumerate() {
        let head = match line.strip_prefix('|') {
            Some(cells) => cells.split('|').next().unwrap_or_default(),
            None if line.starts_with('#') => line,
            None => continue,
        };
        for place in id.find_iter(head) {
            if rows.insert(place.as_str(), index + 1).is_some() {
                found.push(format!(
                    "{LIST}:{}: {} has a row already",
                    index + 1,
                    place.as_str()
                ));
            }
        }
    }
    rows
}

/// Looks at each comment that holds the mark: the lines from the mark to the end of the comment.
fn of_file(file: &TextFile, id: &Regex, rows: &BTreeMap<&str, usize>, found: &mut Vec<String>) {
    let mark = Regex::new(r"//[/!]?\s*Compat:").expect("the pattern is fixed");
    let lines: Vec<&str> = file.text.lines().collect();
    for (index, _) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| mark.is_match(line))
    {
        let after = lines[index + 1..]
            .iter()
            .take_while(|line| line.trim_start().starts_with("//"));
        let text = after.fold(lines[index].to_owned(), |text, line| text + "\n" + line);
        let ids: Vec<&str> = id.find_iter(&text).map(|place| place.as_str()).collect();
        let place = format!("{}:{}", file.path, index + 1);
        if ids.is_empty() {
            found.push(format!("{place}: name the row of {LIST}, as in `Q-topic`"));
        }
        for unknown in ids.iter().filter(|id| !rows.contains_key(**id)) {
            found.push(format!("{place}: {LIST} has no row {unknown}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "# Quirks\n\nText about Q-not-a-row.\n\n| id | what |\n|---|---|\n| Q-one | x |\n| Q-two-b | y |\n";

    fn check(list: &str, source: &str) -> Vec<String> {
        let file = |path: &str, text: &str| TextFile {
            path: path.into(),
            text: text.into(),
        };
        complaints(&[file(LIST, list), file("a/src/lib.rs", source)])
    }

    /// Written in pieces, or this file would hold marks itself.
    fn marked(text: &str) -> String {
        format!("// {}: {text}\nlet a = 1;\n", "Compat")
    }

    #[test]
    fn marks_and_rows_belong_together() {
        let both = marked("as Q-one says.") + &marked("odd\n// on two lines, Q-two-b.");
        assert_eq!(check(ROWS, &both), Vec::<String>::new());
        let first = check(ROWS, &marked("as Q-one says."));
        assert_eq!(first, ["docs/quirks.md:8: nothing mentions Q-two-b"]);
    }

    #[test]
    fn a_mark_names_a_row() {
        let rest = "// Q-one Q-two-b elsewhere\n";
        assert_eq!(check(ROWS, &(marked("for no reason.") + rest)).len(), 1);
        assert_eq!(check(ROWS, &(marked("Q-three.") + rest)).len(), 1);
        assert_eq!(check("| Q-one |\n| Q-one |\n", &marked("Q-one")).len(), 1);
    }
}

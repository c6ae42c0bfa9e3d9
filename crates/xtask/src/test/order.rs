//! The order in which crates are tested: what changed, what uses it, the rest; within each from the lowest floor up, so
//! that a fault shows where it is before it shows where it hurts.

use std::collections::BTreeSet;

use crate::tidy::floors::{Member, Place};

/// Names of all members, in the order of their tests.
pub fn order(members: &[Member], changed: &BTreeSet<String>) -> Vec<String> {
    let users = users(members, changed);
    let rank = |member: &Member| {
        if changed.contains(&member.name) {
            0
        } else if users.contains(&member.name) {
            1
        } else {
            2
        }
    };
    let height = |member: &Member| match member.place {
        Place::Floor(floor) => floor,
        Place::Outside | Place::Unknown => u8::MAX,
    };
    let mut sorted: Vec<&Member> = members.iter().collect();
    sorted.sort_by_key(|member| (rank(member), height(member), &member.name));
    sorted
        .into_iter()
        .map(|member| member.name.clone())
        .collect()
}

/// Those that use what changed, directly or through others.
fn users(members: &[Member], changed: &BTreeSet<String>) -> BTreeSet<String> {
    let mut reached = changed.clone();
    loop {
        let more = members.iter().filter(|member| {
            !reached.contains(&member.name)
                && member.uses.iter().any(|(used, _)| reached.contains(used))
        });
        let more: Vec<String> = more.map(|member| member.name.clone()).collect();
        if more.is_empty() {
            return reached;
        }
        reached.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, place: Place, uses: &[&str]) -> Member {
        Member {
            name: name.to_owned(),
            place,
            uses: uses
                .iter()
                .map(|used| ((*used).to_owned(), false))
                .collect(),
        }
    }

    #[test]
    fn what_changed_is_first_and_then_what_uses_it() {
        let members = [
            member("blocks", Place::Floor(2), &["values"]),
            member("daprd", Place::Floor(4), &["blocks"]),
            member("e2e", Place::Outside, &["proto"]),
            member("proto", Place::Floor(0), &[]),
            member("security", Place::Floor(1), &[]),
            member("values", Place::Floor(0), &[]),
        ];
        let changed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            order(&members, &changed(&[])),
            ["proto", "values", "security", "blocks", "daprd", "e2e"]
        );
        assert_eq!(
            order(&members, &changed(&["values"])),
            ["values", "blocks", "daprd", "proto", "security", "e2e"]
        );
        assert_eq!(
            order(&members, &changed(&["proto", "blocks"])),
            ["proto", "blocks", "daprd", "e2e", "values", "security"]
        );
    }
}

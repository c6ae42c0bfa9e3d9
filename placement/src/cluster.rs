//! The members of a placement cluster, as `--initial-cluster` lists them.

use anyhow::{Context as _, bail, ensure};

/// Checks the list against this node. A cluster of several members needs an elected leader, which this
/// version has not: two leaders would hand out two truths, so it is refused.
pub(crate) fn check(list: &str, id: &str) -> anyhow::Result<()> {
    let members = values::list::owned(list);
    ensure!(
        !members.is_empty(),
        "flag --initial-cluster lists no member"
    );
    let mut ids = Vec::with_capacity(members.len());
    for member in &members {
        let (id, address) = member.split_once('=').with_context(|| {
            format!("flag --initial-cluster: {member:?} is not of the form id=host:port")
        })?;
        let port = address
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        ensure!(
            !id.is_empty() && port.is_some(),
            "flag --initial-cluster: {member:?} is not of the form id=host:port"
        );
        ids.push(id);
    }
    if members.len() > 1 {
        bail!(
            "flag --initial-cluster lists {} members: several members are not supported yet",
            members.len()
        );
    }
    ensure!(
        ids.contains(&id),
        "flag --initial-cluster does not list this node, whose --id is {id:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_member_that_is_this_node() {
        assert!(check("a=127.0.0.1:8201", "a").is_ok());
        assert!(check("a=[::1]:8201", "a").is_ok());
        let text = |list: &str, id: &str| check(list, id).unwrap_err().to_string();
        assert!(
            text("a=h:1,b=h:2,c=h:3", "a").contains(
                "--initial-cluster lists 3 members: several members are not supported yet"
            )
        );
        assert!(text("a=h:1", "b").contains("does not list this node"));
        assert!(text("", "a").contains("lists no member"));
        for bad in ["a", "a=h", "a=h:x", "=h:1"] {
            assert!(text(bad, "a").contains(bad), "{bad}");
        }
    }
}

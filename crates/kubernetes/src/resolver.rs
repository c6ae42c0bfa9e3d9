//! What a pod's resolver knows about the cluster.

/// Where resolvers look.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The domain of the cluster's names, from the search list of a pod's resolver: what follows `svc.`. The other domains
/// there may be the node's.
pub fn cluster_domain(resolv_conf: &str) -> Option<String> {
    let lines = resolv_conf.lines().map(|line| {
        let end = line.find(['#', ';']).unwrap_or(line.len());
        line[..end].trim()
    });
    // Of several search lists, the last one counts.
    let search = lines
        .filter_map(|line| line.strip_prefix("search"))
        .next_back()?;
    let domain = search
        .split_whitespace()
        .find_map(|name| name.strip_prefix("svc."))?;
    Some(domain.trim_end_matches('.').to_owned()).filter(|domain| !domain.is_empty())
}

#[cfg(test)]
mod tests {
    use super::cluster_domain;

    #[test]
    fn the_domain_follows_svc_whatever_the_node_adds() {
        let text = "nameserver 10.0.0.1\nsearch ns.svc.my.domain svc.my.domain my.domain corp.lan # hosts\noptions ndots:5\n";
        assert_eq!(cluster_domain(text).as_deref(), Some("my.domain"));
        assert_eq!(
            cluster_domain("search svc.a\nsearch svc.b.\n").as_deref(),
            Some("b")
        );
        for none in ["search lan\n", "nameserver 1.1.1.1", "", "search svc.\n"] {
            assert_eq!(cluster_domain(none), None, "{none}");
        }
    }
}

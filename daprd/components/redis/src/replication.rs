//! How many replicas a server has.

use crate::client::Client;

/// None in a cluster, where the answer is a map of servers, and none where the server does not say.
pub async fn replicas(client: &Client) -> u32 {
    let info: redis::RedisResult<String> =
        client.query(redis::cmd("INFO").arg("replication")).await;
    info.ok().as_deref().map_or(0, connected)
}

fn connected(info: &str) -> u32 {
    info.lines()
        .find_map(|line| line.trim().strip_prefix("connected_slaves:"))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::connected;

    #[test]
    fn replicas_are_counted() {
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\nslave0:ip=::1\r\n";
        assert_eq!(connected(info), 2);
        assert_eq!(connected("role:slave\r\n"), 0);
    }
}

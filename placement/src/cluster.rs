//! The members of a placement cluster, as `--initial-cluster` lists them, and this node's port among them.

use anyhow::{Context as _, bail, ensure};
use tokio_util::sync::CancellationToken;
use transport::{Error, Listener};

/// Where a member listens for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    host: String,
    port: u16,
}

/// Checks the list against this node, and finds its address. A cluster of several members needs an elected
/// leader, which this version has not: two leaders would hand out two truths, so it is refused.
pub(crate) fn own_address(list: &str, id: &str) -> anyhow::Result<Address> {
    let members = values::list::owned(list);
    ensure!(
        !members.is_empty(),
        "flag --initial-cluster lists no member"
    );
    let mut own = None;
    for member in &members {
        let (member_id, address) = parse(member).with_context(|| {
            format!("flag --initial-cluster: {member:?} is not of the form id=host:port")
        })?;
        if member_id == id {
            own = Some(address);
        }
    }
    if members.len() > 1 {
        bail!(
            "flag --initial-cluster lists {} members: several members are not supported yet, run one, and name only it",
            members.len()
        );
    }
    own.with_context(|| {
        format!("flag --initial-cluster does not list this node, whose --id is {id:?}")
    })
}

fn parse(member: &str) -> Option<(&str, Address)> {
    let (id, address) = member.split_once('=').filter(|(id, _)| !id.is_empty())?;
    let (host, port) = address.rsplit_once(':')?;
    let address = Address {
        host: host.to_owned(),
        port: port.parse().ok()?,
    };
    Some((id, address))
}

/// The port for other members. There are none, but probes and load balancers look whether it is open, so it takes
/// connections, and closes them at once. Q-placement-members
pub(crate) struct Port(Listener);

impl Port {
    pub async fn open(address: &Address) -> anyhow::Result<Self> {
        let Address { host, port } = address;
        let listener = match Listener::listen(host, *port).await {
            // The name of a pod that is not ready yet is not known either.
            Err(Error::Resolve { .. }) => Listener::listen("", *port).await,
            done => done,
        };
        let listener = listener
            .with_context(|| format!("the address {host}:{port} of flag --initial-cluster"))?;
        Ok(Self(listener))
    }

    pub async fn run(self, shutdown: CancellationToken) {
        let answer = async {
            loop {
                drop(self.0.accept().await);
            }
        };
        shutdown.run_until_cancelled(answer).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn one_member_that_is_this_node() {
        let address = own_address("a=127.0.0.1:8201", "a").unwrap();
        assert_eq!((&*address.host, address.port), ("127.0.0.1", 8201));
        assert_eq!(own_address("a=[::1]:8201", "a").unwrap().host, "[::1]");
        let text = |list: &str, id: &str| own_address(list, id).unwrap_err().to_string();
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

    #[tokio::test]
    async fn connections_are_taken_and_closed() {
        for host in ["127.0.0.1", "no host name"] {
            let address = Address {
                host: host.to_owned(),
                port: 0,
            };
            let port = Port::open(&address).await.unwrap();
            let number = port.0.local_addr().unwrap().port();
            let shutdown = CancellationToken::new();
            let dial = async {
                for _ in 0..3 {
                    let mut stream = TcpStream::connect(("127.0.0.1", number)).await.unwrap();
                    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "closed");
                }
                shutdown.cancel();
            };
            tokio::join!(port.run(shutdown.clone()), dial);
            assert!(TcpStream::connect(("127.0.0.1", number)).await.is_err());
        }
    }
}

//! The members of a placement cluster, as `--initial-cluster` lists them, and this node's port among them.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use openraft::BasicNode;
use tokio_util::sync::CancellationToken;
use transport::{Error, Listener};

/// Where a member listens for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    host: String,
    port: u16,
}

/// All members, and which of them this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Members {
    pub id: String,
    pub own: Address,
    all: BTreeMap<String, Address>,
}

impl Members {
    /// Checks the list against this node.
    ///
    /// # Errors
    /// Where an entry is not `id=host:port`, a name is there twice, this node is not listed, or there are too many.
    pub fn parse(list: &str, id: &str) -> anyhow::Result<Self> {
        let mut all = BTreeMap::new();
        for member in values::list::owned(list) {
            let (name, address) = parse(&member).with_context(|| {
                format!("flag --initial-cluster: {member:?} is not of the form id=host:port")
            })?;
            ensure!(
                all.insert(name.to_owned(), address).is_none(),
                "flag --initial-cluster lists {name} twice"
            );
        }
        ensure!(!all.is_empty(), "flag --initial-cluster lists no member");
        ensure!(
            all.len() <= MAX_MEMBERS,
            "flag --initial-cluster lists {} members, more than {MAX_MEMBERS}",
            all.len()
        );
        let own = all.get(id).cloned().with_context(|| {
            format!("flag --initial-cluster does not list this node, whose --id is {id:?}")
        })?;
        Ok(Self {
            id: id.to_owned(),
            own,
            all,
        })
    }

    /// Whether there is nobody to agree with.
    pub fn alone(&self) -> bool {
        self.all.len() == 1
    }

    /// As the election knows them.
    pub fn nodes(&self) -> BTreeMap<String, BasicNode> {
        let nodes = self.all.iter();
        nodes
            .map(|(name, Address { host, port })| {
                (name.clone(), BasicNode::new(format!("{host}:{port}")))
            })
            .collect()
    }
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

impl Address {
    /// Listens there.
    ///
    /// # Errors
    /// Where the port is taken, or the address is not of this machine.
    pub async fn listen(&self) -> anyhow::Result<Listener> {
        let Self { host, port } = self;
        let listener = match Listener::listen(host, *port).await {
            // The name of a pod that is not ready yet is not known either.
            Err(Error::Resolve { .. }) => Listener::listen("", *port).await,
            done => done,
        };
        listener.with_context(|| format!("the address {host}:{port} of flag --initial-cluster"))
    }
}

/// The port of a member that is alone. Nobody has anything to say to it, but probes and load balancers look whether it
/// is open, so it takes connections, and closes them at once. Q-placement-members
pub(crate) struct Port(Listener);

impl Port {
    pub async fn open(address: &Address) -> anyhow::Result<Self> {
        Ok(Self(address.listen().await?))
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

/// Every member more is one more to be heard of before a leader leads.
const MAX_MEMBERS: usize = 9;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn this_node_is_one_of_the_members() {
        let alone = Members::parse("a=127.0.0.1:8201", "a").unwrap();
        assert_eq!((&*alone.own.host, alone.own.port), ("127.0.0.1", 8201));
        assert!(alone.alone());
        assert_eq!(
            Members::parse("a=[::1]:8201", "a").unwrap().own.host,
            "[::1]"
        );
        let three = Members::parse("a=h:1,b=h:2,c=h:3", "b").unwrap();
        assert_eq!(three.own.port, 2);
        assert!(!three.alone());
        assert_eq!(three.nodes()["c"].addr, "h:3");
        let text = |list: &str, id: &str| Members::parse(list, id).unwrap_err().to_string();
        assert!(text("a=h:1,a=h:2", "a").contains("lists a twice"));
        let many: Vec<String> = (0..10).map(|i| format!("m{i}=h:{i}")).collect();
        assert!(text(&many.join(","), "m0").contains("lists 10 members, more than 9"));
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

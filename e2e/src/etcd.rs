//! An etcd of Debian's, which can go away and come back with what it held.

use component_conformance::servers;
use proto::etcd::rpc::kv_client::KvClient;
use proto::etcd::rpc::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest};
use tokio::net::TcpStream;
use tonic::transport::Channel;

use crate::http::Client;
use crate::{Ca, mesh, process, scheduler, wait};

/// A server with one member on the loopback; gone when dropped.
pub struct Etcd(servers::Etcd);

impl Etcd {
    /// Starts one, empty.
    pub async fn start() -> Self {
        let dir = process::folder("etcd");
        let ca = Ca::new("etcd");
        ca.write(dir.path());
        ca.write_server(dir.path());
        let etcd = Self(servers::Etcd::start_in(dir));
        etcd.serves().await;
        etcd
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        self.0.address()
    }

    /// A replica of the scheduler that keeps its jobs here.
    pub fn replica(&self, id: &str) -> scheduler::Builder {
        scheduler::Scheduler::builder()
            .arg(&format!("--id={id}"))
            .arg("--etcd-embed=false")
            .arg(&format!("--etcd-client-endpoints={}", self.address()))
    }

    /// One that speaks TLS to it.
    pub fn secure_replica(&self, id: &str) -> scheduler::Builder {
        let anchors = self.0.folder().path().join("ca.crt");
        self.replica(id)
            .arg(&format!(
                "--etcd-client-endpoints=https://127.0.0.1:{}",
                self.0.secure_port()
            ))
            .env("SSL_CERT_FILE", &anchors.to_string_lossy())
    }

    /// Lets in only this user from now on, who may do everything.
    pub async fn protect(&self, user: &str, password: &str) {
        let http = Client::new(format!("http://{}", self.address()));
        for (path, body) in [
            (
                "user/add",
                serde_json::json!({"name": "root", "password": "root"}),
            ),
            ("role/add", serde_json::json!({"name": "root"})),
            (
                "user/grant",
                serde_json::json!({"user": "root", "role": "root"}),
            ),
            (
                "user/add",
                serde_json::json!({"name": user, "password": password}),
            ),
            (
                "user/grant",
                serde_json::json!({"user": user, "role": "root"}),
            ),
            ("enable", serde_json::json!({})),
        ] {
            let request = http.request(http::Method::POST, &format!("/v3/auth/{path}"));
            let reply = request.body(body.to_string()).attempt().await;
            let reply = reply.expect("etcd answers");
            assert_eq!(reply.status, 200, "{path}: {reply:?}");
        }
    }

    /// Writes a key.
    pub async fn put(&self, key: &str, value: Vec<u8>) {
        let put = PutRequest {
            key: key.to_owned().into(),
            value: value.into(),
            ..PutRequest::default()
        };
        self.kv().put(put).await.expect("it is written");
    }

    /// Deletes a key.
    pub async fn delete(&self, key: &str) {
        let delete = DeleteRangeRequest {
            key: key.to_owned().into(),
            ..DeleteRangeRequest::default()
        };
        self.kv().delete_range(delete).await.expect("it is deleted");
    }

    /// The keys that begin so, with their values.
    pub async fn all(&self, prefix: &str) -> Vec<(String, bytes::Bytes)> {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().expect("a prefix") += 1;
        let range = RangeRequest {
            key: prefix.to_owned().into(),
            range_end: end.into(),
            ..RangeRequest::default()
        };
        let answer = self.kv().range(range).await.expect("it is readable");
        let pairs = answer.into_inner().kvs.into_iter();
        pairs
            .map(|pair| (String::from_utf8_lossy(&pair.key).into_owned(), pair.value))
            .collect()
    }

    /// Forgets all that was before the last write.
    pub async fn compact(&self) {
        let range = RangeRequest {
            key: "a".into(),
            ..RangeRequest::default()
        };
        let answer = self.kv().range(range).await.expect("it is readable");
        let header = answer.into_inner().header.expect("answers have one");
        let compact = CompactionRequest {
            revision: header.revision,
            physical: true,
        };
        self.kv().compact(compact).await.expect("it is compacted");
    }

    /// Kills it.
    pub fn leave(&mut self) {
        self.0.kill();
    }

    /// Starts it again, on its port, with what it held.
    pub async fn come_back(&mut self) {
        self.0.start_again();
        self.serves().await;
    }

    /// Starts it again, on its port, and empty: its revisions begin anew.
    pub async fn come_back_empty(&mut self) {
        let data = self.0.folder().path().join("data");
        std::fs::remove_dir_all(data).expect("it has data");
        self.come_back().await;
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(mesh::plain(self.0.port()))
    }

    async fn serves(&self) {
        wait::eventually("etcd to have a leader", process::START_DEADLINE, || async {
            TcpStream::connect(("127.0.0.1", self.0.port()))
                .await
                .is_ok()
                && self
                    .kv()
                    .range(RangeRequest {
                        key: "a".into(),
                        ..RangeRequest::default()
                    })
                    .await
                    .is_ok()
        })
        .await;
    }
}

//! What does not fit is told when the component is opened.

use component::{
    Lent, Open,
    outgoing::{HttpClient, HttpClients, Tls},
};
use parking_lot::Mutex;

use super::*;

async fn refused(module: &[u8]) -> String {
    let error = opened_with(module, &[("maxFuel", "3000000")])
        .await
        .err()
        .unwrap();
    component::error::chain(&error)
}

fn text(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn a_module_has_to_be_one_for_this_host() {
    let exports = r#"(func (export "handle_request") (result i64) (i64.const 1))
                     (func (export "handle_response") (param i32 i32))"#;
    for (module, wanted) in [
        (
            b"no module".to_vec(),
            "is no WebAssembly module that can be used",
        ),
        (text("(module)"), "has to export its memory as memory"),
        (
            text(r#"(module (memory (export "memory") 1))"#),
            "has to export the function handle_request: () -> i64",
        ),
        (
            text(
                r#"(module (memory (export "memory") 1) (func (export "handle_request") (result i64) (i64.const 1))
                    (func (export "handle_response") (param i32)))"#,
            ),
            "has to export the function handle_response: (i32, i32) -> ()",
        ),
        (
            text(&format!(
                r#"(module (import "env" "system" (func (param i32))) (memory (export "memory") 1) {exports})"#
            )),
            "does not start",
        ),
        (
            module(&format!("(func $s (loop $l (br $l))) (start $s) {exports}")),
            "does not start",
        ),
        (
            module(&format!(
                r#"(func (export "_initialize") (loop $l (br $l))) {exports}"#
            )),
            "the guest has run for 3000000 instructions without an end",
        ),
        (
            module(&format!(
                r#"(func (export "_start") (drop (call $get_uri (i32.const 0) (i32.const 0)))) {exports}"#
            )),
            "there is no request while the guest starts",
        ),
    ] {
        let told = refused(&module).await;
        assert!(told.contains(wanted), "{told}");
    }
}

#[tokio::test]
async fn reasons_of_a_module_are_cut() {
    let long = "a".repeat(100_000);
    let missing = wat::parse_str(format!(
        r#"(module (import "{long}" "b" (func)) (memory (export "memory") 1)
           (func (export "handle_request") (result i64) (i64.const 1))
           (func (export "handle_response") (param i32 i32)))"#
    ));
    let told = refused(&missing.unwrap()).await;
    assert!(told.len() < 1000, "{} bytes", told.len());
    let url = format!("file:///no\n{long}.wasm");
    let opening = open("guest", &[("url", &*url)]);
    let error = catalog().middleware.open("wasm", "v1", opening).await;
    let told = component::error::chain(&error.err().unwrap());
    assert!(told.len() < 1000 && !told.contains('\n'), "{told}");
}

#[tokio::test]
async fn the_url_has_to_name_a_file_or_a_server() {
    for (url, wanted) in [
        ("", "metadata field url: is required"),
        ("oci://registry/image", "oci is not supported"),
        ("main.wasm", "metadata field url"),
        ("file:///no/such/file.wasm", "/no/such/file.wasm"),
        ("file:///dev/zero", "is not a file"),
    ] {
        let opening = open("guest", &[("url", url)]);
        let error = catalog()
            .middleware
            .open("wasm", "v1", opening)
            .await
            .err()
            .unwrap();
        let told = component::error::chain(&error);
        assert!(told.contains(wanted), "{told}");
    }
}

/// Answers with a module, or a status.
struct Server(Mutex<Option<Response<Body>>>);

#[async_trait]
impl HttpClient for Server {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        assert_eq!(request.uri(), "https://user:secret@server/a/main.wasm");
        Ok(self.0.lock().take().unwrap())
    }
}

struct Clients(Arc<Server>);

impl HttpClients for Clients {
    fn client(&self, _: &Tls) -> Result<Arc<dyn HttpClient>> {
        Ok(Arc::clone(&self.0) as Arc<dyn HttpClient>)
    }
}

async fn fetched(response: Response<Body>) -> Result<Arc<dyn HttpMiddleware>> {
    let server = Arc::new(Server(Mutex::new(Some(response))));
    let lent = Lent {
        http: Arc::new(Clients(server)),
        ..Lent::default()
    };
    let fields = [("url", "https://user:secret@server/a/main.wasm")];
    let opening = Open {
        lent,
        ..open("guest", &fields)
    };
    catalog().middleware.open("wasm", "v1", opening).await
}

#[tokio::test]
async fn a_module_comes_from_a_server() {
    let middleware = fetched(Response::new(body::full(on_request("(i64.const 1)"))))
        .await
        .unwrap();
    assert_eq!(ask(&middleware, post("")).await.status(), 201);
    let missing = Response::builder().status(404).body(body::empty()).unwrap();
    let error = fetched(missing).await.err().unwrap().to_string();
    assert_eq!(
        error,
        "no module at server/a/main.wasm: the answer is 404 Not Found"
    );
    let large = Response::new(body::full(vec![0; (32 << 20) + 1]));
    let error = fetched(large).await.err().unwrap().to_string();
    assert!(
        error.ends_with("the body is larger than 33554432 bytes"),
        "{error}"
    );
}

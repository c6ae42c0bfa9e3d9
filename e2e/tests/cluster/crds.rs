//! The API server's judgement of the examples beside the resource types: `accept-*` it takes, `refuse-*` it does not.

use crate::installation::{control_plane, repository};
use crate::kube::run;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_takes_every_example_and_refuses_every_counter_example() {
    let (_, _unchanged) = control_plane().await;
    let (mut taken, mut refused, mut wrong) = (0, 0, Vec::new());
    let examples = repository().join("crds/examples");
    for folder in std::fs::read_dir(&examples).expect("crds/examples") {
        for file in
            std::fs::read_dir(folder.expect("a folder").path()).expect("a folder of examples")
        {
            let path = file.expect("a file").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a name in UTF-8")
                .to_owned();
            let text = std::fs::read_to_string(&path).expect("an example");
            // what a field means is the server's to say, and not this kubectl's
            let args = [
                "create",
                "--dry-run=server",
                "--validate=ignore",
                "-n",
                "default",
                "-f",
                "-",
            ];
            let judged = run("kubectl", &args, &text).await;
            match (name.split('-').next(), judged) {
                (Some("accept"), Ok(_)) => taken += 1,
                (Some("refuse"), Err(said))
                    if said.contains("is invalid") || said.contains("BadRequest") =>
                {
                    refused += 1
                }
                (_, judged) => wrong.push(format!("{}: {judged:?}", path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        taken >= 7 && refused >= 7,
        "{taken} taken, {refused} refused: examples are missing"
    );
}

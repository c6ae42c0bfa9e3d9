//! What every program says of itself and ends (contract 9.1).

use e2e::process::{self, Options, Process};
use e2e::wait;

/// What a program prints when it is asked for something, with exit code 0 and nothing beside it.
async fn printed(program: &'static str, argument: &str) -> String {
    let options = Options {
        program,
        args: vec![argument.to_owned()],
        ..Options::default()
    };
    let mut process = Process::start(options, process::folder(program));
    let code = process.exit_code(wait::DEADLINE).await;
    assert_eq!((code, &*process.stderr()), (0, ""), "{program} {argument}");
    process.stdout()
}

#[tokio::test]
async fn programs_print_their_version_alone() {
    let version = printed("daprd", "--version").await;
    let text = version.strip_suffix('\n').expect("a line");
    assert!(text == "edge" || text.split('.').count() >= 3, "{text:?}");
    for program in [
        "daprd",
        "sentry",
        "operator",
        "injector",
        "placement",
        "scheduler",
    ] {
        for argument in ["--version", "-version"] {
            assert_eq!(printed(program, argument).await, version, "{program}");
        }
    }
    let build = printed("daprd", "--build-info").await;
    let lines: Vec<&str> = build.lines().collect();
    let [first, commit, git] = lines.as_slice() else {
        panic!("{build}");
    };
    assert_eq!(*first, format!("Version: {text}"));
    assert!(commit.starts_with("Git Commit: ") && git.starts_with("Git Version: "));
}

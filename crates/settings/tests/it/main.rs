//! The table against the contract, round trips between the doors, and the checks of `resolve`.

use std::collections::BTreeMap;
use std::time::Duration;

use settings::{
    Action, AppProtocol, Door, Error, Kind, Mode, ROWS, Resolved, Row, Settings, command,
};

mod contract;

fn args(words: &[&str]) -> Result<Settings, Error> {
    Settings::from_args(
        std::iter::once("daprd").chain(words.iter().copied()),
        |_| None,
    )
}

fn resolve(words: &[&str]) -> Result<Resolved, Error> {
    args(words)?.resolve()
}

fn message(words: &[&str]) -> String {
    resolve(words).expect_err("refused").to_string()
}

/// A value of the row's type that no door takes for its default.
fn sample(row: &Row) -> &'static str {
    match (row.name, row.kind) {
        ("app_protocol", _) => "grpc",
        ("log_level", _) => "debug",
        ("mode", _) => "kubernetes",
        (_, Kind::Text | Kind::Secret) => "some-text",
        (_, Kind::Switch) => {
            if row.default == "true" {
                "false"
            } else {
                "true"
            }
        }
        (_, Kind::Integer) => "17",
        (_, Kind::Port) => "1234",
        (_, Kind::Duration) => "1m30s",
        (_, Kind::Quantity) => "12Mi",
        (_, Kind::List) => "one,two",
    }
}

#[test]
fn every_annotation_survives_the_command_line() {
    for row in ROWS {
        let Some(name) = row.annotation else { continue };
        let mut annotations = BTreeMap::from([(format!("dapr.io/{name}"), sample(row).to_owned())]);
        if let Some(switch) = row.only_with {
            annotations.insert(format!("dapr.io/{switch}"), "true".to_owned());
        }
        let injected = Settings::from_annotations(&annotations)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let flags = injected.to_args();
        let flag = format!("--{}", row.flag.expect("annotated rows have a flag"));
        assert!(
            flags
                .iter()
                .any(|arg| arg.split('=').next() == Some(flag.as_str())),
            "{name}: {flags:?}"
        );
        let words: Vec<&str> = flags.iter().map(String::as_str).collect();
        assert_eq!(
            args(&words).unwrap_or_else(|error| panic!("{name}: {error}")),
            injected,
            "{name}"
        );
    }
}

#[test]
fn every_flag_is_read_in_both_spellings() {
    for row in ROWS {
        let Some(flag) = row.flag else { continue };
        let joined =
            args(&[&format!("--{flag}={}", sample(row))]).unwrap_or_else(|e| panic!("{flag}: {e}"));
        assert_ne!(joined, Settings::default(), "{flag}");
        if row.kind != Kind::Switch {
            assert_eq!(
                args(&[&format!("--{flag}"), sample(row)]).expect("two words"),
                joined,
                "{flag}"
            );
        }
    }
}

#[test]
fn every_environment_variable_is_read_only_without_its_flag() {
    for row in ROWS {
        let Some(name) = row.environment else {
            continue;
        };
        let lookup = |asked: &str| (asked == name).then(|| sample(row).to_owned());
        let read = Settings::from_args(["daprd"], lookup)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_ne!(read, Settings::default(), "{name}");
        if let Some(flag) = row.flag {
            let both = Settings::from_args(["daprd", &format!("--{flag}=flag")], lookup)
                .expect("settings");
            assert_eq!(
                both,
                args(&[&format!("--{flag}=flag")]).expect("settings"),
                "{name}"
            );
        }
    }
}

#[test]
fn the_defaults_in_the_table_are_the_ones_resolved() {
    let mut words = vec!["--app-id=a".to_owned()];
    for row in ROWS
        .iter()
        .filter(|row| !row.default.is_empty() && row.deprecated.is_none())
    {
        words.extend(row.flag.map(|flag| format!("--{flag}={}", row.default)));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(
        resolve(&words).expect("the defaults are fine"),
        resolve(&["--app-id=a"]).expect("settings")
    );
}

#[test]
fn the_table_covers_the_contract() {
    let flags: Vec<&str> = ROWS.iter().filter_map(|row| row.flag).collect();
    let environment: Vec<&str> = ROWS.iter().filter_map(|row| row.environment).collect();
    contract::same("flags", contract::FLAGS, &flags);
    contract::same("environment", contract::ENVIRONMENT, &environment);
    let run: Vec<&str> = ROWS
        .iter()
        .filter_map(|row| row.run.map(|run| run.name))
        .collect();
    contract::same("dapr run", contract::RUN_FLAGS, &run);
}

#[test]
fn switches_lists_and_repetitions() {
    assert_eq!(
        args(&["--enable-mtls", "--app-id", "x"])
            .expect("settings")
            .enable_mtls,
        Some(true)
    );
    assert_eq!(
        args(&["--enable-mtls=false"])
            .expect("settings")
            .enable_mtls,
        Some(false)
    );
    let settings = args(&[
        "--resources-path=a,b",
        "--resources-path",
        "c",
        "--app-id=x",
        "--app-id=y",
    ]);
    let settings = settings.expect("settings");
    assert_eq!(
        settings.resources_path.as_deref(),
        Some(&["a".into(), "b".into(), "c".into()][..])
    );
    assert_eq!(settings.app_id.as_deref(), Some("y"));
    assert_eq!(
        args(&["--dapr-graceful-shutdown-seconds", "-1"])
            .expect("ok")
            .graceful_shutdown_seconds,
        Some(-1)
    );
    assert!(matches!(args(&["--nope"]), Err(Error::Usage(_))));
    assert!(args(&["word", "--app-id", "x"]).is_ok());
    assert!(matches!(
        args(&["--enable-mtls=maybe"]),
        Err(Error::Value { .. })
    ));
}

#[test]
fn secrets_do_not_show() {
    let lookup = |name: &str| (name == "DAPR_API_TOKEN").then(|| "hush".to_owned());
    let settings = Settings::from_args(["daprd"], lookup).expect("settings");
    assert!(!format!("{settings:?}").contains("hush"));
    assert_eq!(settings.api_token.expect("read").expose(), "hush");
}

#[test]
fn bad_durations_in_the_environment_are_told() {
    let lookup = |name: &str| (name == "DAPR_GRPC_MAX_CONN_IDLE").then(|| "-1s".to_owned());
    let settings = Settings::from_args(["daprd", "--app-id=a"], lookup).expect("settings");
    assert!(settings.ignored()[0].contains("DAPR_GRPC_MAX_CONN_IDLE"));
    assert_eq!(
        settings
            .resolve()
            .expect("defaults")
            .tuning
            .grpc_max_conn_idle,
        Duration::from_secs(180)
    );
}

#[test]
fn app_ids_and_modes() {
    assert_eq!(message(&[]), "flag --app-id is required");
    assert!(message(&["--app-id=a.b"]).contains("contains a dot"));
    assert_eq!(
        resolve(&["--app-id=a.b", "--mode=kubernetes"])
            .expect("checked earlier")
            .mode,
        Mode::Kubernetes
    );
    assert!(message(&["--app-id=a", "--mode=x"]).contains("invalid value \"x\" for flag --mode"));
}

#[test]
fn ports() {
    assert!(
        message(&["--app-id=a", "--app-port=3500"])
            .contains("--dapr-http-port with value 3500 conflicts")
    );
    assert!(message(&["--app-id=a", "--app-port=50001"]).contains("--dapr-grpc-port"));
    assert!(
        message(&["--app-id=a", "--dapr-http-port=99999"])
            .contains("\"99999\" for flag --dapr-http-port")
    );
    let resolved = resolve(&[
        "--app-id=a",
        "--app-port=0",
        "--dapr-internal-grpc-port=0",
        "--dapr-public-port=",
    ]);
    let resolved = resolved.expect("zeros and blanks are unset");
    assert_eq!(
        (
            resolved.app.port,
            resolved.internal_grpc_port,
            resolved.public_port
        ),
        (None, None, None)
    );
}

#[test]
fn health_probes_take_zero_for_the_default() {
    let zeros = [
        "--app-id=a",
        "--enable-app-health-check=true",
        "--app-health-probe-interval=0",
    ];
    let health = resolve(&[&zeros[..], &["--app-health-threshold=0"]].concat())
        .expect("settings")
        .app
        .health;
    let health = health.expect("on");
    assert_eq!(
        (health.interval, health.threshold),
        (Duration::from_secs(5), 3)
    );
    assert!(
        message(&["--app-id=a", "--app-health-probe-timeout=5001"])
            .contains("app-health-probe-timeout")
    );
    assert_eq!(resolve(&["--app-id=a"]).expect("settings").app.health, None);
}

#[test]
fn sizes() {
    let size = |words: &[&str]| {
        resolve(&[&["--app-id=a"], words].concat())
            .expect("settings")
            .max_body_size
    };
    assert_eq!(size(&[]), Some(4 << 20));
    assert_eq!(size(&["--dapr-http-max-request-size=2"]), Some(2 << 20));
    assert_eq!(
        size(&["--dapr-http-max-request-size=2", "--max-body-size=1Ki"]),
        Some(1024)
    );
    assert_eq!(size(&["--max-body-size=0"]), None);
    assert_eq!(size(&["--dapr-http-max-request-size=-1"]), Some(4 << 20));
    assert_eq!(
        resolve(&["--app-id=a", "--dapr-http-read-buffer-size=8"])
            .expect("ok")
            .read_buffer_size,
        8192
    );
    assert!(
        message(&["--app-id=a", "--max-body-size=9223372036854775808"]).contains("max-body-size")
    );
}

#[test]
fn the_rest_of_the_checks() {
    let base = |word: &str| resolve(&["--app-id=a", word]);
    assert!(
        message(&["--app-id=a", "--actors-disseminate-timeout=0s"]).contains("must be above zero")
    );
    assert!(message(&["--app-id=a", "--disable-init-endpoints=config,x"]).contains("\"x\""));
    let resolved = base("--disable-init-endpoints=Config").expect("settings");
    assert!(!resolved.app.ask_config && resolved.app.ask_subscriptions);
    assert!(message(&["--app-id=a", "--enable-mtls"]).contains("DAPR_TRUST_ANCHORS is required"));
    assert!(message(&["--app-id=a", "--app-protocol=ftp"]).contains("\"ftp\""));
    let tls = resolve(&["--app-id=a", "--app-protocol=GRPC", "--app-ssl"]).expect("settings");
    assert_eq!(tls.app.protocol, AppProtocol::Grpcs);
    assert_eq!(
        base("--app-max-concurrency=-1")
            .expect("settings")
            .app
            .max_concurrency,
        None
    );
    assert_eq!(
        base("--dapr-graceful-shutdown-seconds=-3")
            .expect("ok")
            .graceful_shutdown,
        Duration::from_secs(5)
    );
    assert_eq!(
        base("--components-path=x").expect("ok").resources_paths,
        [std::path::PathBuf::from("x")]
    );
    assert!(message(&["--app-id=a", "--log-level=loud"]).contains("\"loud\""));
}

#[test]
fn actions() {
    assert_eq!(args(&["--version"]).expect("ok").action(), Action::Version);
    assert_eq!(
        args(&["--wait", "--dapr-http-port=1"])
            .expect("ok")
            .action(),
        Action::Wait(1)
    );
    assert_eq!(args(&["--app-id=a"]).expect("ok").action(), Action::Run);
}

#[test]
fn dapr_run_says_minus_one_for_unset() {
    let command = clap::Command::new("run")
        .args(settings::run_arguments())
        .disable_help_flag(true);
    let matches =
        command.try_get_matches_from(["run", "-a", "shop", "-H", "-1", "--app-port", "80"]);
    let settings = Settings::from_run_matches(&matches.expect("parses")).expect("settings");
    assert_eq!(settings.to_args(), ["--app-id", "shop", "--app-port", "80"]);
    assert!(
        ROWS.iter()
            .all(|row| row.run.is_none() || row.flag.is_some()),
        "{:?}",
        Door::Run
    );
}

#[test]
fn the_command_is_sound() {
    command().debug_assert();
}

#[test]
fn a_scheduler_of_blanks_and_quotes_is_none() {
    for blank in ["", " ", "''", "\"   \"", "'  '"] {
        let resolved = resolve(&["--app-id=a", &format!("--scheduler-host-address={blank}")]);
        assert!(
            resolved.unwrap().scheduler_addresses.is_empty(),
            "{blank:?}"
        );
    }
    let resolved = resolve(&["--app-id=a", "--scheduler-host-address=a:1,b:2"]).unwrap();
    assert_eq!(resolved.scheduler_addresses, ["a:1", "b:2"]);
}

//! The environment, read.

use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<Config, Error> {
    let base = [
        ("NAMESPACE", "dapr-system"),
        ("SIDECAR_IMAGE", "daprd:1"),
        ("KUBE_CLUSTER_DOMAIN", "c.local"),
    ];
    let all: Vec<_> = base
        .iter()
        .chain(pairs)
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Config::from_environment(
        |name| {
            all.iter()
                .rev()
                .find(|(k, _)| k == name)
                .map(|(_, v)| v.clone())
        },
        true,
    )
}

#[test]
fn defaults() {
    let config = read(&[]).unwrap();
    assert_eq!(config.image_pull_policy, "Always");
    assert_eq!(
        config.actors,
        Actors::Placement(Service::new("dapr-placement-server", 50005))
    );
    assert!(config.run_as_non_root && config.read_only_root_filesystem);
    assert!(!config.drop_all_capabilities && config.scheduler);
    for (text, native) in [
        ("", NativeSidecar::No),
        ("false", NativeSidecar::No),
        ("true", NativeSidecar::Yes),
        ("Auto", NativeSidecar::WhereSupported),
    ] {
        let config = read(&[("NATIVE_SIDECAR_ENABLED", text)]).unwrap();
        assert_eq!(config.native_sidecar, native, "{text}");
    }
    assert_eq!(
        config.sentry_id.to_string(),
        "spiffe://cluster.local/ns/dapr-system/dapr-sentry"
    );
    assert_eq!(
        config.address(&Service::new("dapr-api", 443)),
        "dapr-api.dapr-system.svc.c.local:443"
    );
}

#[test]
fn everything_can_be_said() {
    let config = read(&[
        ("SIDECAR_IMAGE_PULL_POLICY", "Sometimes"),
        ("ACTORS_SERVICE_NAME", "other"),
        ("ACTORS_SERVICE_ADDRESS", "srv:9"),
        ("REMINDERS_SERVICE_NAME", "r"),
        ("REMINDERS_SERVICE_ADDRESS", "r:1"),
        ("SIDECAR_RUN_AS_USER", "1000"),
        ("SIDECAR_DROP_ALL_CAPABILITIES", "yes"),
        ("ALLOWED_SERVICE_ACCOUNTS", "a:b, c:d*"),
        ("ALLOWED_SERVICE_ACCOUNTS_PREFIX_NAMES", "e*:f"),
        (
            "IGNORE_ENTRYPOINT_TOLERATIONS",
            r#"[{"key":"k","effect":"NoSchedule"}]"#,
        ),
    ]);
    let config = config.unwrap();
    assert_eq!(config.image_pull_policy, "IfNotPresent");
    assert_eq!(
        config.actors,
        Actors::Other("other".into(), Service::new("srv", 9))
    );
    assert_eq!(config.reminders, Some(("r".into(), Service::new("r", 1))));
    assert_eq!(
        (config.run_as_user, config.drop_all_capabilities),
        (Some(1000), true)
    );
    assert_eq!(config.service_accounts, ["a:b", "c:d*", "e*:f"]);
    assert_eq!(config.entrypoint_tolerations.len(), 1);
    assert_eq!(
        read(&[("ACTORS_ENABLED", "false")]).unwrap().actors,
        Actors::Off
    );
}

#[test]
fn errors_name_the_variable() {
    let message = |pairs: &[(&str, &str)]| read(pairs).unwrap_err().to_string();
    assert_eq!(
        message(&[("SIDECAR_IMAGE", "")]),
        "environment variable SIDECAR_IMAGE is required"
    );
    assert!(
        message(&[("SIDECAR_RUN_AS_USER", "x")])
            .contains("\"x\" for environment variable SIDECAR_RUN_AS_USER")
    );
    assert!(
        message(&[
            ("ACTORS_SERVICE_NAME", "a"),
            ("ACTORS_SERVICE_ADDRESS", "b")
        ])
        .contains("name:port")
    );
}

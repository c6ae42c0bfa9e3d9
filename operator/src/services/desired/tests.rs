//! What a Service says, and who owns it.

use super::super::workload::Kind;
use super::*;

fn workload(annotations: &[(&str, &str)]) -> Workload {
    Workload {
        uid: "u".to_owned(),
        selector: [("app".to_owned(), "shop".to_owned())].into(),
        annotations: annotations
            .iter()
            .map(|(name, value)| (format!("dapr.io/{name}"), (*value).to_owned()))
            .collect(),
    }
}

fn key() -> Key {
    Key {
        kind: Kind::Deployment,
        namespace: "n".to_owned(),
        name: "shop-deployment".to_owned(),
    }
}

fn made(annotations: &[(&str, &str)], mtls: bool) -> Service {
    let all = [(key(), Arc::new(workload(annotations)))];
    service(&Owners::new(&all, None).unwrap(), "shop", mtls)
}

fn ports(service: &Service) -> Vec<(String, i32, IntOrString, String)> {
    let ports = service.spec.as_ref().unwrap().ports.clone().unwrap();
    ports
        .into_iter()
        .map(|port| {
            (
                port.name.unwrap(),
                port.port,
                port.target_port.unwrap(),
                port.app_protocol.unwrap(),
            )
        })
        .collect()
}

#[test]
fn the_service_of_an_app() {
    let service = made(&[], true);
    assert_eq!(service.metadata.name.as_deref(), Some("shop-dapr"));
    assert_eq!(
        service.metadata.labels.as_ref().unwrap()["dapr.io/enabled"],
        "true"
    );
    let owner = &service.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.controller),
        ("Deployment", Some(true))
    );
    let line = |name: &str, port, target, protocol: &str| {
        (
            name.to_owned(),
            port,
            IntOrString::Int(target),
            protocol.to_owned(),
        )
    };
    assert_eq!(
        ports(&service),
        [
            line("dapr-http", 80, 3500, "http"),
            line("dapr-grpc", 50001, 50001, "grpc"),
            line("dapr-internal", 50002, 50002, "tls"),
            line("dapr-metrics", 9090, 9090, "http"),
        ]
    );
    let annotations = service.metadata.annotations.unwrap();
    let expected = [
        ("dapr.io/app-id", "shop"),
        ("prometheus.io/path", "/"),
        ("prometheus.io/port", "9090"),
        ("prometheus.io/probe", "true"),
        ("prometheus.io/scrape", "true"),
    ];
    let pairs: Vec<_> = annotations
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(pairs, expected);
}

#[test]
fn annotations_change_ports_and_more() {
    let service = made(
        &[
            ("grpc-port", "1"),
            ("internal-grpc-port", "2"),
            ("metrics-port", "x"),
            ("enable-metrics", "false"),
            (
                "sidecar-svc-annotations",
                "a = b, c=d=e,dapr.io/app-id=evil,=x,none",
            ),
        ],
        false,
    );
    let ports = ports(&service);
    assert_eq!((ports[1].1, ports[2].1, ports[3].1), (1, 2, 9090));
    assert_eq!(ports[2].3, "grpc");
    let annotations = service.metadata.annotations.unwrap();
    let pairs: Vec<_> = annotations
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [("a", "b"), ("c", "d=e"), ("dapr.io/app-id", "shop")]
    );
}

#[test]
fn app_ids_have_to_make_a_name() {
    let check = |id: &str| app_id(&workload(&[("app-id", id)])).map(str::to_owned);
    assert_eq!(check("my-app1"), Ok("my-app1".to_owned()));
    assert_eq!(check(&"a".repeat(58)), Ok("a".repeat(58)));
    assert_eq!(check(""), Err(Error::NoAppId));
    for bad in ["My", "a.b", "-a", "a_b", &"a".repeat(59)] {
        assert!(
            matches!(check(bad), Err(Error::InvalidAppId { .. })),
            "{bad}"
        );
    }
}

#[test]
fn all_workloads_of_an_app_own_its_service_and_one_controls_it() {
    let all: Vec<_> = ["blue", "green"]
        .map(|name| {
            let mut workload = workload(&[]);
            workload.uid = name.to_owned();
            workload.selector = [("app".to_owned(), name.to_owned())].into();
            let name = name.to_owned();
            (Key { name, ..key() }, Arc::new(workload))
        })
        .into();
    let made = |there: Option<&Service>| {
        let service = service(&Owners::new(&all, there).unwrap(), "shop", true);
        let owners = service.metadata.owner_references.clone().unwrap();
        let owners = owners
            .into_iter()
            .map(|it| (it.uid, it.controller == Some(true)));
        let selector = service.spec.clone().unwrap().selector.unwrap();
        (owners.collect::<Vec<_>>(), selector["app"].clone(), service)
    };
    let (owners, app, _) = made(None);
    assert_eq!(owners, [("blue".into(), true), ("green".into(), false)]);
    assert_eq!(app, "blue");
    let mut of_green = made(None).2;
    for owner in of_green.metadata.owner_references.as_mut().unwrap() {
        owner.controller = Some(owner.uid == "green");
    }
    let (owners, app, _) = made(Some(&of_green));
    assert_eq!(owners, [("green".into(), true), ("blue".into(), false)]);
    assert_eq!(app, "green");
    assert!(Owners::new(&[], None).is_none());
}

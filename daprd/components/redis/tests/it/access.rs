//! Passwords and users of access control lists, wherever servers or sentinels ask for them.

use component::ErrorKind;

use crate::{
    broker, cluster::Cluster, item, publish, refused, sentinel::Watched, server::Server, set,
    store, usage::works,
};

/// May do everything that a component needs, and nothing that administers: neither INFO nor ROLE.
const APP: &[&str] = &[
    "--user",
    "app",
    "on",
    ">secret",
    "~*",
    "&*",
    "+@all",
    "-@dangerous",
    "-@admin",
];

const NO_RETRIES: (&str, &str) = ("redisMaxRetries", "-1");
const USER: (&str, &str) = ("redisUsername", "app");
const PASSWORD: (&str, &str) = ("redisPassword", "secret");

/// What is not let in: a wrong password, an unknown user, a password of somebody else.
const WRONG: &[&[(&str, &str)]] = &[
    &[USER, ("redisPassword", "wrong")],
    &[("redisUsername", "nobody"), PASSWORD],
    &[PASSWORD],
    &[],
];

async fn lets_in_the_right_one(reach: &[(&str, &str)], server: &str) {
    let right = [reach, &[USER, PASSWORD]].concat();
    works(&right).await;
    for wrong in WRONG {
        let fields = [reach, wrong, &[NO_RETRIES]].concat();
        for opened in [
            store(&fields).await.map(drop),
            broker(&fields).await.map(drop),
        ] {
            let text = refused(opened, ErrorKind::Unauthorized, server);
            assert!(!text.contains("secret"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_server_lets_in_the_right_user() {
    let server = Server::start(&[APP, &["--requirepass", "other"]].concat()).await;
    lets_in_the_right_one(&[("redisHost", &server.address)], &server.address).await;
}

#[tokio::test]
async fn databases_are_kept_apart() {
    let server = Server::start(&["--requirepass", "secret"]).await;
    let reach = [("redisHost", server.address.as_str()), PASSWORD];
    let store = async |database| store(&[&reach[..], &[("redisDB", database)]].concat()).await;
    let (one, two) = (store("1").await.unwrap(), store("2").await.unwrap());
    one.set(&set("k", b"v")).await.unwrap();
    assert!(item(&*two, "k").await.is_none());
}

#[tokio::test]
async fn what_a_user_must_not_do_is_told() {
    let user = [
        "--user",
        "reader",
        "on",
        ">secret",
        "~*",
        "+@read",
        "+@connection",
    ];
    let server = Server::start(&user).await;
    let fields = [
        ("redisHost", server.address.as_str()),
        ("redisUsername", "reader"),
        PASSWORD,
    ];
    let store = store(&fields).await.unwrap();
    assert!(item(&*store, "k").await.is_none());
    let error = store.set(&set("k", b"v")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let broker = broker(&fields).await.unwrap();
    let error = publish(&*broker, "t", b"m").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn sentinels_lead_the_right_user_to_the_server() {
    let watched = Watched::start(
        &[APP, &["--requirepass", "other"]].concat(),
        "sentinel auth-pass main other",
    )
    .await;
    lets_in_the_right_one(&watched.fields(), &watched.sentinel.address).await;
}

#[tokio::test]
async fn a_cluster_lets_in_the_right_user() {
    let cluster = Cluster::start(&[APP, &["--requirepass", "other"]].concat()).await;
    lets_in_the_right_one(&cluster.fields(), &cluster.hosts).await;
}

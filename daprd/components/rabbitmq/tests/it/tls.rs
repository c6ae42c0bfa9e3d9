//! TLS, and logging in with a certificate.

use crate::{KEPT, open_broker, publish, receive, request, server::server, topic};

#[tokio::test]
async fn the_authority_decides_whom_to_trust() {
    let (server, _turn) = server().await;
    let url = format!("amqps://127.0.0.1:{}", server.tls_port);
    let authority = server.authority.pem();
    let fields = [("connectionString", &*url), ("caCert", &*authority)];
    let broker = open_broker(&fields).await.expect("a broker");
    broker.ping().await.expect("answers");
    let error = open_broker(&fields[..1]).await.err().expect("an error");
    let text = component::error::chain(&error);
    assert!(text.contains("certificate"), "{text}");
}

#[tokio::test]
async fn a_certificate_logs_in() {
    let (server, _turn) = server().await;
    let url = format!("amqps://nobody:wrong@127.0.0.1:{}/", server.tls_port);
    let authority = server.authority.pem();
    for (name, known) in [("guest", true), ("stranger", false)] {
        let (certificate, key) = server.authority.issue(name);
        let mut fields = vec![
            ("connectionString", &*url),
            ("saslExternal", "true"),
            ("caCert", &*authority),
            ("clientCert", &*certificate),
            ("clientKey", &*key),
        ];
        fields.extend(KEPT);
        let broker = open_broker(&fields).await;
        assert_eq!(broker.is_ok(), known, "{name}");
        let Ok(broker) = broker else { continue };
        let topic = topic("certificate");
        let mut deliveries = broker
            .subscribe(request(&topic, &[]))
            .await
            .expect("a subscription");
        publish(&*broker, &topic, "m", &[])
            .await
            .expect("is published");
        assert_eq!(receive(&mut deliveries).await, "m");
    }
}

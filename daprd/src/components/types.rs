//! The component types that there are, in this build or not (contract 14): a type that is not built in is told from a slip.

/// Kinds, and their types separated by blanks.
const KNOWN: &[(&str, &str)] = &[
    (
        "bindings",
        "alicloud.dingtalk.webhook alicloud.oss alicloud.sls alicloud.tablestore apns aws.dynamodb \
         aws.kinesis aws.s3 aws.ses aws.sns aws.sqs azure.blobstorage azure.cosmosdb \
         azure.cosmosdb.gremlinapi azure.eventgrid azure.eventhubs azure.openai azure.servicebus.queues \
         azure.signalr azure.storagequeues cloudflare.queues commercetools cron dubbo gcp.bucket gcp.pubsub \
         graphql http huawei.obs influx kafka kitex kubemq kubernetes localstorage mqtt mqtt3 mysql postgres \
         postmark rabbitmq redis rethinkdb.statechange rocketmq sftp smtp twilio.sendgrid twilio.sms wasm \
         zeebe.command zeebe.jobworker",
    ),
    (
        "configuration",
        "azure.appconfig kubernetes postgresql redis",
    ),
    (
        "conversation",
        "anthropic aws.bedrock deepseek echo googleai huggingface mistral ollama openai",
    ),
    (
        "crypto",
        "azure.keyvault dapr.jwks dapr.kubernetes.secrets dapr.localstorage",
    ),
    ("lock", "redis"),
    (
        "middleware.http",
        "bearer oauth2 oauth2clientcredentials opa ratelimit routeralias routerchecker sentinel uppercase \
         wasm",
    ),
    (
        "pubsub",
        "aws.snssqs azure.eventhubs azure.servicebus.queues azure.servicebus.topics gcp.pubsub in-memory \
         jetstream kafka kubemq mqtt mqtt3 pulsar rabbitmq redis rocketmq solace.amqp",
    ),
    (
        "secretstores",
        "alicloud.parameterstore aws.parameterstore aws.secretmanager aws.secretsmanager azure.keyvault gcp.secretmanager \
         hashicorp.vault huaweicloud.csms kubernetes local.env local.file tencentcloud.ssm",
    ),
    (
        "state",
        "aerospike alicloud.tablestore aws.dynamodb azure.blobstorage azure.cosmosdb azure.tablestorage \
         cassandra cloudflare.workerskv cockroachdb coherence couchbase etcd gcp.firestore hashicorp.consul \
         hazelcast in-memory jetstream memcached mongodb mysql oci.objectstorage oracledatabase postgres \
         postgresql ravendb redis rethinkdb sqlite sqlite3 sqlserver yugabyte yugabytedb zookeeper",
    ),
];

/// Whether a type exists somewhere; types are matched without regard to case.
pub fn is_known(component_type: &str) -> bool {
    let component_type = component_type.to_ascii_lowercase();
    KNOWN.iter().any(|(kind, names)| {
        let name = component_type.strip_prefix(kind);
        let name = name.and_then(|rest| rest.strip_prefix('.'));
        name.is_some_and(|name| names.split(' ').any(|known| known == name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_are_told_from_slips() {
        for known in [
            "bindings.http",
            "Lock.Redis",
            "crypto.dapr.jwks",
            "middleware.http.wasm",
        ] {
            assert!(is_known(known), "{known}");
        }
        for slip in [
            "binding.http",
            "bindings.htp",
            "bindings.",
            "bindings",
            "state",
            "",
        ] {
            assert!(!is_known(slip), "{slip}");
        }
    }

    /// Also that the list has what this build has.
    #[test]
    fn every_type_of_the_catalog_is_known() {
        let catalog = crate::catalog::catalog().unwrap();
        // Name resolvers stand in a Configuration, not in Components.
        let entries = catalog.entries();
        for entry in entries.filter(|entry| entry.kind != "nameresolution") {
            for name in &entry.names {
                let full = format!("{}.{name}", entry.kind);
                assert!(is_known(&full), "{full}");
            }
        }
    }
}

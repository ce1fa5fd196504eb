use super::*;

fn config() -> KafkaConfig {
    KafkaConfig::new(&KafkaUrl::parse("kafka://a:1,b:2/t").unwrap())
}

fn get<'a>(properties: &'a Properties, name: &str) -> Option<&'a str> {
    let mut found = properties.iter().filter(|(key, _)| *key == name);
    let value = found.next().map(|(_, value)| value.as_str());
    assert!(found.next().is_none(), "{name} is said twice");
    value
}

#[test]
fn urls_name_brokers_and_a_topic() {
    for (url, brokers, topic) in [
        ("kafka://h:9092/t", "h:9092", "t"),
        ("kafka://h/t", "h", "t"),
        (
            "kafka://b1.example:9092,b2.example:9093/nacre.log-1_x",
            "b1.example:9092,b2.example:9093",
            "nacre.log-1_x",
        ),
        ("kafka://[::1]:9092/t", "[::1]:9092", "t"),
    ] {
        let parsed = KafkaUrl::parse(url).unwrap();
        assert_eq!((&parsed.brokers[..], &parsed.topic[..]), (brokers, topic));
    }
}

#[test]
fn urls_that_name_something_else_are_refused_and_passwords_are_not_repeated() {
    for url in [
        "kafka:h/t",
        "kafka://h",
        "kafka://h/",
        "kafka:///t",
        "kafka://h:x/t",
        "kafka://h:0/t",
        "kafka://h:99999/t",
        "kafka://h,/t",
        "kafka://h/a/b",
        "kafka://h/..",
        "kafka://h/a b",
        "kafka://h/t?x=1",
        "s3://h/t",
        "",
        "kafka://user:canary@h:1/t",
    ] {
        let error = KafkaUrl::parse(url).unwrap_err();
        assert_eq!(error.code(), "log-url", "{url}");
        assert!(!error.detail().contains("canary"), "{error}");
    }
    assert!(KafkaUrl::parse(&format!("kafka://h/{}", "t".repeat(249))).is_ok());
    assert!(KafkaUrl::parse(&format!("kafka://h/{}", "t".repeat(250))).is_err());
}

#[test]
fn topic_ids_print_as_kafka_prints_them() {
    assert_eq!(TopicId(0).to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(TopicId(u128::MAX).to_string(), "_____________________w");
    // The uuid 324e4138-4542-4157-4135-324e44513251 in the same alphabet.
    assert_eq!(TopicId(0x324e_4138_4542_4157_4135_324e_4451_3251).to_string(), "Mk5BOEVCQVdBNTJORFEyUQ");
}

#[test]
fn producers_lose_and_double_nothing() {
    let properties = config().producer();
    assert_eq!(get(&properties, "enable.idempotence"), Some("true"));
    assert_eq!(get(&properties, "acks"), Some("all"));
    assert_eq!(get(&properties, "message.timeout.ms"), Some("0"), "the time-out is ours");
    assert_eq!(get(&properties, "request.timeout.ms"), Some("5000"));
    assert_eq!(get(&properties, "linger.ms"), Some("1.000"));
    assert_eq!(get(&properties, "allow.auto.create.topics"), Some("false"));
    let throughput = KafkaConfig { batching: Batching::THROUGHPUT, ..config() }.producer();
    assert_eq!(get(&throughput, "linger.ms"), Some("5.000"));
}

#[test]
fn readers_start_where_they_are_told_and_nowhere_else() {
    let properties = config().reader();
    assert_eq!(get(&properties, "auto.offset.reset"), Some("error"));
    assert_eq!(get(&properties, "enable.auto.commit"), Some("false"));
    assert_eq!(get(&properties, "client.rack"), None);
    let zoned = KafkaConfig { zone: Some("eu-1a".into()), ..config() }.reader();
    assert_eq!(get(&zoned, "client.rack"), Some("eu-1a"));
}

#[test]
fn security_is_said_to_every_client() {
    let sasl =
        Sasl { mechanism: SaslMechanism::ScramSha512, user: "u".into(), password: Secret("canary".into()) };
    let tls = Tls { ca_file: Some("ca.pem".into()), ..Tls::default() };
    for (security, protocol) in [
        (KafkaSecurity::default(), "plaintext"),
        (KafkaSecurity { tls: Some(tls.clone()), sasl: None }, "ssl"),
        (KafkaSecurity { tls: None, sasl: Some(sasl.clone()) }, "sasl_plaintext"),
        (KafkaSecurity { tls: Some(tls), sasl: Some(sasl) }, "sasl_ssl"),
    ] {
        let config = KafkaConfig { security, ..config() };
        assert!(!format!("{config:?}").contains("canary"));
        for properties in [config.tools(), config.producer(), config.reader()] {
            assert_eq!(get(&properties, "security.protocol"), Some(protocol));
            let with_sasl = config.security.sasl.is_some();
            assert_eq!(get(&properties, "sasl.mechanism"), with_sasl.then_some("SCRAM-SHA-512"));
            assert_eq!(get(&properties, "sasl.password"), with_sasl.then_some("canary"));
            let with_tls = config.security.tls.is_some();
            assert_eq!(get(&properties, "ssl.ca.location"), with_tls.then_some("ca.pem"));
        }
    }
}

#[test]
fn settings_that_cannot_be_kept_to_are_refused() {
    assert!(config().check().is_ok());
    for wrong in [
        KafkaConfig { replicas: 0, ..config() },
        KafkaConfig { check_every: Duration::ZERO, ..config() },
        KafkaConfig {
            delivery_timeout: Duration::from_millis(4),
            batching: Batching::THROUGHPUT,
            ..config()
        },
    ] {
        assert_eq!(wrong.check().unwrap_err().code(), "log-config");
    }
    let tls = KafkaConfig { security: KafkaSecurity { tls: Some(Tls::default()), sasl: None }, ..config() };
    assert_eq!(tls.check().is_ok(), cfg!(feature = "kafka-tls"));
}

#[test]
fn a_majority_must_hold_a_record() {
    let needed = |replicas| KafkaConfig { replicas, ..config() }.in_sync();
    assert_eq!([1, 2, 3, 4, 5].map(needed), [1, 2, 2, 3, 3]);
}

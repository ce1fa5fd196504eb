use super::*;

fn facts() -> TopicFacts {
    let mut settings: BTreeMap<String, String> = settings_of_a_new_topic()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    settings.insert("min.insync.replicas".into(), "2".into());
    TopicFacts { name: "t".into(), id: TopicId(7), partitions: 4, replicas: 3, in_sync: 3, settings }
}

fn rules() -> TopicRules {
    TopicRules { id: Some(TopicId(7)), partitions: 4, replicas: 3, in_sync: 2 }
}

#[test]
fn a_topic_that_nacre_makes_is_as_it_must_be() {
    assert_eq!(rules().judge(&facts()), Ok(()));
    assert_eq!(TopicRules { id: None, partitions: 0, ..rules() }.judge(&facts()), Ok(()));
}

#[test]
fn each_setting_that_could_lose_a_record_is_refused_and_named() {
    for (name, value) in [
        ("message.timestamp.type", "CreateTime"),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "1073741824"),
        ("unclean.leader.election.enable", "true"),
        ("min.insync.replicas", "1"),
        ("min.insync.replicas", "4"),
        ("min.insync.replicas", "many"),
    ] {
        let mut facts = facts();
        facts.settings.insert(name.into(), value.into());
        let error = rules().judge(&facts).unwrap_err();
        assert_eq!(error.code(), "log-topic-settings");
        assert!(error.detail().contains(name) && error.detail().contains(value), "{error}");
        facts.settings.remove(name);
        assert_eq!(rules().faults(&facts).len(), 1, "{name}: what is not said is not believed");
    }
}

#[test]
fn fewer_replicas_or_partitions_than_declared_are_refused_and_more_are_not() {
    assert_eq!(rules().faults(&TopicFacts { replicas: 2, ..facts() }).len(), 1);
    assert_eq!(rules().faults(&TopicFacts { partitions: 3, ..facts() }).len(), 1);
    assert!(rules().faults(&TopicFacts { partitions: 9, replicas: 5, ..facts() }).is_empty());
    let single = TopicRules { replicas: 1, in_sync: 1, ..rules() };
    let mut alone = TopicFacts { replicas: 1, ..facts() };
    alone.settings.insert("min.insync.replicas".into(), "1".into());
    assert!(single.faults(&alone).is_empty());
}

#[test]
fn a_topic_of_the_same_name_with_another_id_is_another_topic() {
    let error = rules().judge(&TopicFacts { id: TopicId(8), ..facts() }).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("log-topic-recreated", nacre_types::ErrorKind::Corrupt));
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let mut facts = facts();
    facts.settings.insert("retention.ms".into(), "1".into());
    facts.settings.insert("cleanup.policy".into(), "compact".into());
    let error = rules().judge(&facts).unwrap_err();
    assert!(error.detail().contains("retention.ms") && error.detail().contains("cleanup.policy"), "{error}");
}

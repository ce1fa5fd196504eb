//! The decision, case by case and by properties.

use super::*;
use proptest::prelude::*;

fn grant(home: &str, verbs: &[Verb], tables: Option<&[&str]>, prefix: Option<&str>) -> Grant {
    Grant {
        home: match home {
            "" => Home::Store,
            name => Home::Namespace(NamespaceName::new(name).unwrap()),
        },
        verbs: verbs.iter().copied().collect(),
        tables: tables.map(|names| names.iter().map(|name| TableName::new(name).unwrap()).collect()),
        prefix: prefix.map(|text| Bytes::copy_from_slice(text.as_bytes())),
    }
}

fn ask<'a>(verb: Verb, on: On<'a>) -> Request<'a> {
    Request { verb: Some(verb), on }
}

fn key(key: &str) -> On<'_> {
    On::Table("n", "t", Keys::One(key.as_bytes()))
}

fn range(start: &str, end: Option<&str>) -> KeyRange {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    KeyRange { start: bytes(start), end: end.map(bytes) }
}

#[test]
fn a_verb_allows_itself_and_no_other() {
    for own in Verb::ALL {
        let grant = grant("n", &[own], None, None);
        for verb in Verb::ALL {
            for on in [key("k"), On::Namespace("n"), On::Tables("n"), On::Table("n", "t", Keys::Whole)] {
                let expected = if own == verb { Ok(()) } else { Err(Denied::Verb(verb)) };
                assert_eq!(allows(&grant, &ask(verb, on)), expected, "{own:?} {verb:?} {on:?}");
            }
        }
    }
}

#[test]
fn a_token_of_one_namespace_gets_nothing_of_another_and_nothing_of_the_store() {
    let grant = grant("n", &Verb::ALL, None, None);
    for on in [On::Namespace("m"), On::Tables("m"), On::Table("m", "t", Keys::Whole), On::Namespace("n2")] {
        assert_eq!(allows(&grant, &Request { verb: None, on }), Err(Denied::Namespace), "{on:?}");
    }
    assert_eq!(allows(&grant, &ask(Verb::Admin, On::Store)), Err(Denied::NotOperator));
    assert_eq!(allows(&grant, &Request { verb: None, on: On::Anything }), Ok(()));
}

#[test]
fn rows_are_taken_from_outside_where_a_namespaces_name_stands() {
    let own = grant("n", &[Verb::Load], None, None);
    for place in ["store:n", "store:n/a.parquet", "store:/n/day=1/"] {
        assert_eq!(own.outside(Outside::Place(place)), Ok(()), "{place}");
    }
    for place in [
        "store:m/a.parquet",
        "store:n2/a",
        "store:",
        "store:a/n/b",
        "n/a.parquet",
        "s3://n/n",
        "store:./n",
        "store:N/a",
    ] {
        assert_eq!(
            own.outside(Outside::Place(place)).unwrap_err().error().code(),
            "forbidden-source",
            "{place}"
        );
        assert_eq!(grant("", &[], None, None).outside(Outside::Place(place)), Ok(()));
    }
    assert_eq!(own.outside(Outside::Topic("n.users")), Ok(()));
    for topic in ["m.users", "n", "n2.users", "users", "", ".n.users"] {
        assert!(own.outside(Outside::Topic(topic)).is_err(), "{topic}");
        assert_eq!(grant("", &[], None, None).outside(Outside::Topic(topic)), Ok(()));
    }
}

#[test]
fn an_operators_token_reaches_every_namespace_with_its_verbs() {
    let reader = grant("", &[Verb::Read], None, None);
    assert_eq!(allows(&reader, &ask(Verb::Read, key("k"))), Ok(()));
    assert_eq!(allows(&reader, &ask(Verb::Read, On::Table("m", "u", Keys::Whole))), Ok(()));
    assert_eq!(allows(&reader, &ask(Verb::Admin, On::Store)), Err(Denied::Verb(Verb::Admin)));
    assert_eq!(allows(&grant("", &[Verb::Admin], None, None), &ask(Verb::Admin, On::Store)), Ok(()));
}

#[test]
fn tables_narrow_a_token_and_shut_it_out_of_the_namespace_as_a_whole() {
    let grant = grant("n", &Verb::ALL, Some(&["t", "u"]), None);
    assert_eq!(allows(&grant, &ask(Verb::Load, On::Table("n", "u", Keys::Whole))), Ok(()));
    assert_eq!(allows(&grant, &ask(Verb::Read, On::Table("n", "v", Keys::Later))), Err(Denied::Table));
    assert_eq!(allows(&grant, &ask(Verb::Admin, On::Namespace("n"))), Err(Denied::NarrowedInNamespace));
    assert_eq!(allows(&grant, &ask(Verb::Read, On::Tables("n"))), Ok(()));
    assert!(grant.sees_table("n", "t") && !grant.sees_table("n", "v") && !grant.sees_table("m", "t"));
}

#[test]
fn a_prefix_narrows_keys_ranges_and_shuts_out_of_the_table_as_a_whole() {
    let grant = grant("n", &Verb::ALL, None, Some("ab"));
    for (asked, expected) in [("ab", true), ("abc", true), ("a", false), ("ac", false), ("b", false)] {
        assert_eq!(allows(&grant, &ask(Verb::Read, key(asked))).is_ok(), expected, "{asked}");
    }
    for (asked, expected) in [
        (range("ab", Some("ac")), true),
        (range("abc", Some("abd")), true),
        (range("ab", Some("abz")), true),
        (range("", None), false),
        (range("ab", None), false),
        (range("a", Some("ac")), false),
        (range("ab", Some("ad")), false),
        (range("x", Some("x")), true),
    ] {
        let got = allows(&grant, &ask(Verb::Read, On::Table("n", "t", Keys::Range(&asked))));
        assert_eq!(got, if expected { Ok(()) } else { Err(Denied::Range) }, "{asked:?}");
    }
    assert_eq!(
        allows(&grant, &ask(Verb::Load, On::Table("n", "t", Keys::Whole))),
        Err(Denied::NarrowedInTable)
    );
    assert_eq!(allows(&grant, &ask(Verb::Admin, On::Namespace("n"))), Err(Denied::NarrowedInNamespace));
    assert_eq!(allows(&grant, &ask(Verb::Write, On::Table("n", "t", Keys::Later))), Ok(()));
}

#[test]
fn a_prefix_of_the_highest_bytes_has_a_range_without_an_end() {
    let grant = Grant { prefix: Some(Bytes::from_static(b"\xFF")), ..grant("n", &Verb::ALL, None, None) };
    let all = KeyRange { start: Bytes::from_static(b"\xFF"), end: None };
    assert_eq!(grant.range(&all), Ok(()));
    assert_eq!(grant.range(&range("a", None)), Err(Denied::Range));
}

#[test]
fn every_refusal_is_forbidden_and_says_what_is_lacking() {
    use Denied::*;
    let all = [Namespace, NotOperator, Verb(super::Verb::Load), Table, NarrowedInNamespace];
    for denied in all.into_iter().chain([NarrowedInTable, Key, Range, Escalation]) {
        let error = denied.error();
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        assert!(error.code().starts_with("forbidden-") && error.detail().contains("token"), "{error:?}");
    }
    assert!(Verb(super::Verb::Load).error().detail().contains("load"));
}

fn some_grant() -> impl Strategy<Value = Grant> {
    let tables = prop::option::of(prop::collection::vec(prop::sample::select(vec!["t", "u", "v"]), 0..3));
    let prefix = prop::option::of("[ab]{0,3}");
    (prop::sample::select(vec!["", "n", "m"]), 0u32..16, tables, prefix).prop_map(
        |(home, verbs, tables, prefix)| Grant {
            verbs: Verbs::from_bits(verbs).unwrap(),
            ..grant(home, &[], tables.as_deref(), prefix.as_deref())
        },
    )
}

/// A request, with what it needs to own.
#[derive(Debug, Clone)]
struct Asked {
    verb: Option<Verb>,
    place: u8,
    ns: &'static str,
    table: &'static str,
    key: String,
    range: KeyRange,
}

impl Asked {
    fn request(&self) -> Request<'_> {
        let table = |keys| On::Table(self.ns, self.table, keys);
        let on = match self.place {
            0 => On::Store,
            1 => On::Anything,
            2 => On::Namespace(self.ns),
            3 => On::Tables(self.ns),
            4 => table(Keys::Whole),
            5 => table(Keys::Later),
            6 => table(Keys::One(self.key.as_bytes())),
            _ => table(Keys::Range(&self.range)),
        };
        Request { verb: self.verb, on }
    }
}

fn some_request() -> impl Strategy<Value = Asked> {
    let verb = prop::option::of(prop::sample::select(Verb::ALL.to_vec()));
    let (ns, table) = (prop::sample::select(vec!["n", "m"]), prop::sample::select(vec!["t", "u", "v"]));
    (verb, 0u8..8, ns, table, "[abc]{1,4}", "[abc]{0,4}", prop::option::of("[abc]{0,4}")).prop_map(
        |(verb, place, ns, table, key, start, end)| Asked {
            verb,
            place,
            ns,
            table,
            key,
            range: range(&start, end.as_deref()),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_grant_that_covers_another_allows_all_that_it_allows(a in some_grant(), b in some_grant(), asked in some_request()) {
        if a.covers(&b) && allows(&b, &asked.request()).is_ok() {
            prop_assert_eq!(allows(&a, &asked.request()), Ok(()));
        }
        prop_assert!(a.covers(&a));
    }

    #[test]
    fn no_grant_of_a_namespace_reaches_another(grant in some_grant(), asked in some_request()) {
        let names_one = asked.place >= 2;
        if names_one && grant.home.namespace().is_some_and(|own| own.as_str() != asked.ns) {
            prop_assert_eq!(allows(&grant, &asked.request()), Err(Denied::Namespace));
        }
    }

    #[test]
    fn a_range_is_allowed_exactly_if_each_of_its_keys_is(grant in some_grant(), asked in some_request()) {
        // Keys up to five letters: the alphabet of the ranges, and one letter below and above it.
        let mut keys = vec![String::new()];
        let mut all = Vec::new();
        for _ in 0..5 {
            let longer = |key: &String| ["\0", "a", "b", "c", "d"].map(|letter| format!("{key}{letter}"));
            keys = keys.iter().flat_map(longer).filter(|key| asked.range.overlaps(key.as_bytes(), format!("{key}~").as_bytes())).collect();
            all.extend(keys.iter().filter(|key| asked.range.contains(key.as_bytes())).cloned());
        }
        let each = all.iter().all(|key| grant.key(key.as_bytes()).is_ok());
        prop_assert_eq!(grant.range(&asked.range).is_ok(), each);
    }
}

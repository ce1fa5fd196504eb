//! Which crate may depend on which. Arrows point down: a crate names only crates of lower levels, a service no other
//! service (the program alone wires them together), and what is heavy or foreign has one owner.

use super::{judge, metadata, repository_files};
use crate::report::Counts;
use crate::{Outcome, process};
use serde_json::Value;

/// The house, from the bottom up. A crate may name crates of lower levels only.
const LEVELS: &[(u8, &[&str])] = &[
    (0, &["nacre-types"]),
    (1, &["nacre-runtime"]),
    (2, &["nacre-segment", "nacre-source", "nacre-manifest", "nacre-model", "nacre-placement", "nacre-tls"]),
    (3, &["nacre-store", "nacre-cache"]),
    (4, &["nacre-catalog", "nacre-log"]),
    (5, &["nacre-engine", "nacre-api", "nacre-access"]),
    (6, &["nacre-client", "nacre-fleet", "nacre-sim"]),
    (
        7,
        &[
            "nacre-dispatcher",
            "nacre-cache-node",
            "nacre-writer",
            "nacre-loader",
            "nacre-maintainer",
            "nacre-lambda",
        ],
    ),
    (8, &["nacre"]),
    // The chores are no part of the house.
    (9, &["xtask"]),
];

/// Arrows that the levels allow and the house does not: `(crate, what it must not name, why)`.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("nacre-client", "nacre-engine", "a client speaks HTTP and nothing else"),
    ("nacre-client", "nacre-store", "a client speaks HTTP and nothing else"),
    ("nacre-api", "nacre-store", "the API's types know no storage"),
    ("nacre-api", "nacre-log", "the API's types know no storage"),
    ("nacre-api", "nacre-catalog", "the API's types know no storage"),
    ("nacre-dispatcher", "nacre-segment", "a dispatcher has no state and reads no segment"),
];

/// Foreign crates with one owner: `(how the name begins, the crate that may name it)`.
const OWNED: &[(&str, &str)] = &[
    ("object_store", "nacre-store"),
    ("aws-sdk-s3", "nacre-store"),
    ("aws-config", "nacre-store"),
    ("parquet", "nacre-segment"),
    ("arrow", "nacre-segment"),
    ("aws-sdk-dynamodb", "nacre-catalog"),
    ("rdkafka", "nacre-log"),
    ("foyer", "nacre-cache"),
];

/// Crates that are programs: they may read the environment. Their tests and everybody's may too.
const PROGRAMS: &[&str] = &["services/nacre/", "services/lambda/", "xtask/", "bench-peers/"];

pub(crate) fn check(counts: &mut Counts) -> Outcome {
    let mut findings = Vec::new();
    let mut looked_at = 0;
    for (name, dependencies) in own_packages(&metadata()?) {
        looked_at += 1 + dependencies.len() as u64;
        findings.extend(judge_package(&name, &dependencies));
    }
    for file in repository_files()? {
        let is_test = ["/tests/", "/benches/", "/examples/"].iter().any(|folder| file.contains(folder))
            || file.ends_with("tests.rs");
        if !file.ends_with(".rs") || is_test || PROGRAMS.iter().any(|program| file.starts_with(program)) {
            continue;
        }
        let text =
            std::fs::read_to_string(process::root().join(&file)).map_err(|e| format!("{file}: {e}"))?;
        looked_at += 1;
        findings.extend(reads_the_environment(&file, &text));
    }
    judge(looked_at, &findings, counts)
}

/// A package of the workspace with what it depends on: `(name, for tests only)`.
type Package = (String, Vec<(String, bool)>);

fn own_packages(metadata: &Value) -> Vec<Package> {
    let members: Vec<&str> = array(metadata, "workspace_members").filter_map(Value::as_str).collect();
    array(metadata, "packages")
        .filter(|package| package["id"].as_str().is_some_and(|id| members.contains(&id)))
        .map(|package| {
            let dependencies = array(package, "dependencies")
                .filter_map(|dependency| {
                    Some((
                        dependency["name"].as_str()?.to_owned(),
                        dependency["kind"].as_str() == Some("dev"),
                    ))
                })
                .collect();
            (package["name"].as_str().unwrap_or_default().to_owned(), dependencies)
        })
        .collect()
}

fn array<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn level(name: &str) -> Option<u8> {
    LEVELS.iter().find(|(_, names)| names.contains(&name)).map(|(level, _)| *level)
}

fn judge_package(name: &str, dependencies: &[(String, bool)]) -> Vec<String> {
    let Some(own) = level(name) else {
        return vec![format!("{name}: a crate that has no level; give it one in xtask/src/checks/arrows.rs")];
    };
    let mut findings = Vec::new();
    for (dependency, for_tests) in dependencies {
        if *for_tests {
            // A crate's tests may stand on anything: the model, a service beside it, a writer of strangers' files.
            continue;
        }
        let owner = OWNED.iter().find(|(prefix, _)| dependency.starts_with(prefix)).map(|(_, owner)| *owner);
        if owner.is_some_and(|owner| owner != name) {
            findings.push(format!("{name} names {dependency}, which only {} may", owner.unwrap_or_default()));
        }
        if level(dependency).is_some_and(|other| other >= own) {
            findings.push(format!("{name} names {dependency}: arrows point down"));
        }
        if dependency == "nacre-model" && name != "nacre-sim" {
            findings.push(format!(
                "{name} names nacre-model outside its tests: the model shares no code with the store"
            ));
        }
        for (from, to, why) in FORBIDDEN {
            if name == *from && dependency == to {
                findings.push(format!("{name} names {dependency}: {why}"));
            }
        }
    }
    findings
}

fn reads_the_environment(file: &str, text: &str) -> Option<String> {
    let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let line = production.lines().position(|line| {
        let code = line.split("//").next().unwrap_or(line);
        ["env::var", "env::vars", "env::args", "env::current_dir"].iter().any(|word| code.contains(word))
    })?;
    Some(format!("{file}:{}: only programs read the environment", line + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<(String, bool)> {
        list.iter().map(|name| ((*name).to_owned(), false)).collect()
    }

    #[test]
    fn arrows_that_point_up_or_sideways_are_found() {
        assert!(judge_package("nacre-engine", &names(&["nacre-log", "nacre-types", "bytes"])).is_empty());
        assert_eq!(judge_package("nacre-log", &names(&["nacre-engine"])).len(), 1);
        assert_eq!(judge_package("nacre-writer", &names(&["nacre-loader"])).len(), 1);
        assert_eq!(judge_package("nacre-engine", &names(&["nacre-model"])).len(), 1);
        assert_eq!(judge_package("nacre-client", &names(&["nacre-engine"])).len(), 1);
        assert_eq!(judge_package("nacre-news", &[]).len(), 1);
    }

    #[test]
    fn what_is_heavy_or_foreign_has_one_owner_and_tests_may_stand_on_anything() {
        assert_eq!(judge_package("nacre-api", &names(&["arrow-schema"])).len(), 1);
        assert_eq!(judge_package("nacre-loader", &names(&["parquet"])).len(), 1);
        assert!(judge_package("nacre-segment", &names(&["parquet"])).is_empty());
        let for_tests = [("nacre-model".to_owned(), true), ("parquet".to_owned(), true)];
        assert!(judge_package("nacre-engine", &for_tests).is_empty());
    }

    #[test]
    fn environment_reads_are_found_in_code_and_not_in_comments_or_tests() {
        assert!(reads_the_environment("a.rs", "let x = std::env::var(\"A\");").is_some());
        assert!(reads_the_environment("a.rs", "// std::env::var\n").is_none());
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n std::env::var_os(\"A\");\n}\n";
        assert!(reads_the_environment("a.rs", text).is_none());
    }
}

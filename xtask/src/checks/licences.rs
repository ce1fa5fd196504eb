//! The licence and the source of every dependency, judged by `deny.toml`.
//!
//! `deny.toml` is written for cargo-deny, and `cargo deny check licenses bans sources` reads the same file. The check
//! here is its own small reading of it, because cargo-deny costs more to build than everything else that the tests
//! install, and its fourth part, the advisories, needs a database that a sealed machine cannot reach. What this reads:
//! `licenses.allow`, `bans.deny` with its `wrappers`, and `sources.allow-registry`; a licence expression is held to `OR`,
//! `AND` and `WITH`.

use super::{judge, metadata};
use crate::report::Counts;
use crate::{Outcome, process};
use serde_json::Value;

pub(crate) fn check(counts: &mut Counts) -> Outcome {
    let path = process::root().join("deny.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("deny.toml: {error}"))?;
    let policy: toml::Table = text.parse().map_err(|error| format!("deny.toml: {error}"))?;
    let allowed = strings(&policy, "licenses", "allow");
    let registries = strings(&policy, "sources", "allow-registry");
    let banned = bans(&policy);
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut findings = Vec::new();
    for package in packages {
        let field = |name: &str| package[name].as_str();
        let name = format!("{} {}", field("name").unwrap_or("?"), field("version").unwrap_or("?"));
        match field("license") {
            Some(expression) if satisfied(expression, &allowed) => {}
            Some(expression) => {
                findings.push(format!("{name}: licence {expression} is not one that deny.toml allows"))
            }
            None => findings.push(format!("{name}: says no licence")),
        }
        // A package without a source lies in this repository.
        if let Some(source) = field("source")
            && !registries.iter().any(|registry| source == format!("registry+{registry}"))
        {
            findings.push(format!("{name}: comes from {source}, which deny.toml does not allow"));
        }
        if let Some((_, wrappers)) = banned.iter().find(|(banned, _)| package["name"] == banned.as_str()) {
            for user in users(&metadata, package).into_iter().filter(|user| !wrappers.contains(user)) {
                findings.push(format!("{name}: deny.toml bans it, and {user} names it"));
            }
        }
    }
    judge(packages.len() as u64, &findings, counts)
}

/// Crates that are banned, each with those that may name it all the same.
fn bans(policy: &toml::Table) -> Vec<(String, Vec<String>)> {
    let list = policy.get("bans").and_then(|bans| bans.get("deny")).and_then(toml::Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|entry| {
            let wrappers = entry.get("wrappers").and_then(toml::Value::as_array);
            let wrappers = wrappers.into_iter().flatten().filter_map(toml::Value::as_str).map(str::to_owned);
            Some((entry.get("crate")?.as_str()?.to_owned(), wrappers.collect()))
        })
        .collect()
}

/// The names of the packages that depend on one.
fn users(metadata: &Value, package: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let names_it =
        |node: &Value| list(&node["deps"]).iter().any(|dependency| dependency["pkg"] == package["id"]);
    let nodes = list(&metadata["resolve"]["nodes"]);
    let ids: Vec<&Value> = nodes.iter().filter(|node| names_it(node)).map(|node| &node["id"]).collect();
    list(&metadata["packages"])
        .iter()
        .filter(|other| ids.contains(&&other["id"]))
        .filter_map(|other| other["name"].as_str().map(str::to_owned))
        .collect()
}

fn strings(policy: &toml::Table, section: &str, field: &str) -> Vec<String> {
    let list = policy.get(section).and_then(|section| section.get(field)).and_then(toml::Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|entry| entry.as_str().or_else(|| entry.get("crate").and_then(toml::Value::as_str)))
        .map(str::to_owned)
        .collect()
}

/// Whether `allowed` lets one use something under the SPDX `expression`. `AND` binds closer than `OR`, `/` is the old
/// spelling of `OR`.
fn satisfied(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let answer = either(&words, &mut at, allowed);
    answer && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut answer = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        answer |= both(words, at, allowed);
    }
    answer
}

fn both(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut answer = single(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        answer &= single(words, at, allowed);
    }
    answer
}

fn single(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let answer = either(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return answer && closed;
    }
    let mut name = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", words.get(*at + 1).unwrap_or(&"?"));
        *at += 2;
    }
    allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_name_what_is_banned_is_read() {
        let policy: toml::Table =
            "[bans]\ndeny = [{ crate = \"a\" }, { crate = \"b\", wrappers = [\"c\"] }]".parse().unwrap();
        assert_eq!(bans(&policy), [("a".to_owned(), vec![]), ("b".to_owned(), vec!["c".to_owned()])]);
        let metadata = serde_json::json!({
            "packages": [{"name": "b", "id": "b 1"}, {"name": "c", "id": "c 1"}, {"name": "d", "id": "d 1"}],
            "resolve": {"nodes": [
                {"id": "b 1", "deps": []},
                {"id": "c 1", "deps": [{"pkg": "b 1"}]},
                {"id": "d 1", "deps": [{"pkg": "c 1"}]},
            ]},
        });
        assert_eq!(users(&metadata, &metadata["packages"][0]), ["c"]);
    }

    #[test]
    fn licence_expressions_are_read() {
        let allowed =
            ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].map(str::to_owned);
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
        ] {
            assert!(satisfied(good, &allowed), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR GPL-3.0) AND ISC", "", "MIT )", "(MIT"] {
            assert!(!satisfied(bad, &allowed), "{bad}");
        }
    }
}

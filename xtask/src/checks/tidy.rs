//! What a machine can see of style: lengths, words that have no place in a finished file, one integration binary per
//! crate.

use super::{judge, repository_files};
use crate::report::Counts;
use crate::{Outcome, process};

/// Most production lines of one file: past it a reader no longer holds it in mind.
const LINES: usize = 600;

/// It names what it bans.
const THIS_FILE: &str = "xtask/src/checks/tidy.rs";

/// Words that say a file is not finished, with what to do instead.
const UNFINISHED: &[(&str, &str)] = &[
    ("TODO", "do it, or leave it out"),
    ("FIXME", "mend it"),
    ("XXX", "say what is meant"),
    ("HACK", "argue it or replace it"),
    ("todo!(", "write it"),
    ("unimplemented!(", "write it"),
    ("dbg!(", "remove it"),
    (
        "#[ignore]",
        "a test that the test command passes over says in a word what it is for: a measurement, a writer of golden files",
    ),
    ("assert!(true)", "a test that cannot fail is no test"),
];

/// Words that tell of the place where the work was done instead of the work.
const MACHINE: &[(&str, &str)] = &[
    ("/root/", "a path of one machine"),
    ("/home/", "a path of one machine"),
    ("/work/", "a path of one machine"),
    ("static.crates.io", "a registry's host"),
    ("index.crates.io", "a registry's host"),
    ("pypi.org", "a registry's host"),
    ("registry.npmjs.org", "a registry's host"),
    ("repo1.maven.org", "a registry's host"),
    ("proxy.golang.org", "a registry's host"),
];

pub(crate) fn check(counts: &mut Counts) -> Outcome {
    let files = repository_files()?;
    let mut findings = Vec::new();
    let mut looked_at = 0;
    for file in &files {
        let is_text =
            [".rs", ".md", ".toml", ".py", ".sh", ".yml", ".yaml"].iter().any(|end| file.ends_with(end));
        if !is_text && !file.starts_with(".ci/") || file == THIS_FILE {
            continue;
        }
        let text = std::fs::read_to_string(process::root().join(file)).map_err(|e| format!("{file}: {e}"))?;
        looked_at += 1;
        findings.extend(words(file, &text));
        findings.extend(length(file, &text));
    }
    findings.extend(test_binaries(&files));
    judge(looked_at, &findings, counts)
}

fn words(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for (word, instead) in UNFINISHED.iter().chain(MACHINE) {
            if line.contains(word) {
                findings.push(format!("{file}:{number}: {word}: {instead}"));
            }
        }
        if names_a_ticket(file, line) {
            findings.push(format!("{file}:{number}: a ticket number: say what it says"));
        }
        if line.ends_with([' ', '\t']) && !file.ends_with(".md") {
            findings.push(format!("{file}:{number}: white space at the end"));
        }
    }
    findings
}

/// `#123` in a comment or in prose. A cited report of another project carries that project's name before it.
fn names_a_ticket(file: &str, line: &str) -> bool {
    let prose = match file.rsplit('.').next() {
        Some("rs") => line.split_once("//").map_or("", |(_, comment)| comment),
        Some("toml" | "yml" | "yaml" | "sh" | "py") => {
            line.split_once("# ").map_or("", |(_, comment)| comment)
        }
        Some("md") => line,
        _ => "",
    };
    prose.match_indices('#').any(|(at, _)| {
        let after = prose[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
        // The word before it: a project's name ("Iceberg", "arrow-rs", "owner/name"), or the number before in a list.
        let word = prose[..at].split_whitespace().next_back().unwrap_or_default();
        let a_name = word.starts_with(|c: char| c.is_ascii_uppercase()) || word.contains(['/', '-']);
        let named = a_name || (word.starts_with('#') && word.ends_with(','));
        after >= 2 && !named
    })
}

fn length(file: &str, text: &str) -> Option<String> {
    let is_test = file.contains("/tests/") || file.ends_with("tests.rs") || file.contains("/benches/");
    if !file.ends_with(".rs") || is_test {
        return None;
    }
    let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text).lines().count();
    (production > LINES).then(|| {
        format!(
            "{file}: {production} lines of production code; at most {LINES}: cut it where it thinks twice"
        )
    })
}

/// One integration binary per crate: each one more is linked anew.
fn test_binaries(files: &[String]) -> Vec<String> {
    files
        .iter()
        .filter(|file| {
            let mut parts = file.rsplit('/');
            let name = parts.next().unwrap_or_default();
            name.ends_with(".rs") && parts.next() == Some("tests") && !file.contains("/src/")
        })
        .map(|file| format!("{file}: a second test binary; make it a module of tests/it/main.rs"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_words_and_machine_paths_are_found() {
        assert_eq!(words("a.rs", "let a = 1; // TODO later").len(), 1);
        assert_eq!(words("a.md", "see /home/me/x").len(), 1);
        assert!(words("a.rs", "let a = 1; // why\n").is_empty());
    }

    #[test]
    fn ticket_numbers_are_found_in_prose_and_not_in_code() {
        assert!(names_a_ticket("a.rs", "x // see #123"));
        assert!(names_a_ticket("a.md", "it fixes #12"));
        assert!(!names_a_ticket("a.rs", "format!(\"{:#034x}\")"));
        assert!(!names_a_ticket("a.md", "# 12 angry men"));
        assert!(!names_a_ticket("a.md", "SlateDB #352 says so"));
    }

    #[test]
    fn only_production_lines_count() {
        let tests = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(700));
        assert!(length("src/a.rs", &tests).is_none());
        assert!(length("src/a.rs", &"// x\n".repeat(601)).is_some());
        assert!(length("crate/tests/it/a.rs", &"// x\n".repeat(601)).is_none());
    }

    #[test]
    fn a_second_test_binary_is_found() {
        let files: Vec<String> =
            ["x/tests/it/main.rs", "x/tests/more.rs", "x/src/a/tests.rs"].map(str::to_owned).into();
        assert_eq!(test_binaries(&files).len(), 1);
    }
}

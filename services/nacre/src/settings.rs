//! Where settings come from. Each has one name in three spellings: `--cache-memory`, `NACRE_CACHE_MEMORY` and
//! `cache_memory` in the file; a flag wins over a variable, a variable over the file, the file over what is built in.
//!
//! A setting is an argument that has a variable. The file's values are given to the parser as what it assumes where
//! nothing else is said, so one parser judges all three, and nothing here knows the settings one by one.

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use nacre_types::{Error, Result};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::cli::Cli;

/// The file that is read where none is named.
const DEFAULT_FILE: &str = "nacre.toml";

/// A file of settings.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// Where it lies; `None` = there is none.
    pub(crate) path: Option<PathBuf>,
    values: toml::Table,
}

impl File {
    /// Reads a file of settings.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::invalid(format!("{name}: {error}")).with_code("config-unreadable"))?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let name = path.display();
        let wrong = |what: String| Error::invalid(format!("{name}: {what}")).with_code("config-invalid");
        let values: toml::Table = text.parse().map_err(|error| wrong(format!("not TOML: {error}")))?;
        let known = names(&Cli::command());
        for (key, value) in &values {
            if !known.contains(key) {
                let list: Vec<&str> = known.iter().map(String::as_str).collect();
                return Err(wrong(format!("{key} is no setting; the settings are {}", list.join(", "))));
            }
            if text_of(value).is_none() {
                return Err(wrong(format!("{key}: expected a text, a number or true or false")));
            }
        }
        Ok(Self { path: Some(path.to_owned()), values })
    }

    /// Whether the file says something about a setting.
    pub(crate) fn names(&self, setting: &str) -> bool {
        self.values.contains_key(setting)
    }

    /// The command line, with the file's values where it has some.
    fn under(&self, command: clap::Command) -> clap::Command {
        command
            .mut_args(|arg| match arg.get_env().and_then(|_| self.values.get(arg.get_id().as_str())) {
                Some(value) => arg.default_value(text_of(value).unwrap_or_default()),
                None => arg,
            })
            .mut_subcommands(|command| self.under(command))
    }
}

fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

/// The names of all settings: every argument that has a variable, but the file's own.
fn names(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter(|arg| arg.get_env().is_some() && arg.get_id() != "config");
    let mut all: BTreeSet<String> = own.map(|arg| arg.get_id().to_string()).collect();
    all.extend(command.get_subcommands().flat_map(names));
    all
}

/// What was said on the command line, in the variables and in the file.
pub(crate) struct Said {
    pub(crate) cli: Cli,
    pub(crate) matches: ArgMatches,
    pub(crate) file: File,
}

/// Reads the command line, the variables and the file.
///
/// # Errors
/// What `clap` says, which also covers `--help`; or a sentence about the file.
pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Said, Refusal> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let file = match named_file(&arguments) {
        Some(path) => File::read(&path)?,
        None if Path::new(DEFAULT_FILE).is_file() => File::read(Path::new(DEFAULT_FILE))?,
        None => File::default(),
    };
    let matches = file.under(Cli::command()).try_get_matches_from(&arguments)?;
    let cli = Cli::from_arg_matches(&matches)?;
    Ok(Said { cli, matches, file })
}

/// Why a command line is not run.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The parser's words: an error, or the help that was asked for.
    Parser(clap::Error),
    /// A sentence.
    Error(Error),
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Self {
        Self::Parser(error)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The file that `--config` or `NACRE_CONFIG` names. It is wanted before the rest can be parsed, so a first look
/// takes what it can and leaves mistakes to the second.
fn named_file(arguments: &[OsString]) -> Option<PathBuf> {
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "--" {
            break;
        }
        if text == "--config" {
            return words.next().map(PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Some(path.into());
        }
    }
    std::env::var_os("NACRE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// One setting as it is in force.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct InForce {
    /// Its name in the file.
    pub(crate) setting: String,
    /// Its value; nothing where it has none. Secrets are not shown.
    pub(crate) value: Option<String>,
    /// `flag`, `variable`, `file` or `built in`.
    pub(crate) from: &'static str,
}

/// The settings in force, by name. `matches` are those of the innermost command.
pub(crate) fn in_force(matches: &ArgMatches, file: &File) -> Vec<InForce> {
    let mut all = Vec::new();
    for setting in names(&Cli::command()) {
        // A command need not know all of them.
        if matches.try_contains_id(&setting).is_err() {
            continue;
        }
        let source = matches.value_source(&setting);
        let value = matches.try_get_raw(&setting).ok().flatten().and_then(|mut values| values.next());
        let value = value.map(|value| value.to_string_lossy().into_owned());
        let value = if setting == "token" { value.map(|_| "(set)".to_owned()) } else { value };
        let from = match source {
            Some(ValueSource::CommandLine) => "flag",
            Some(ValueSource::EnvVariable) => "variable",
            _ if file.names(&setting) => "file",
            _ => "built in",
        };
        all.push(InForce { setting, value, from });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(file: &str, words: &str) -> Result<ArgMatches, clap::Error> {
        let file = File::parse(file, Path::new("nacre.toml")).unwrap();
        file.under(Cli::command()).try_get_matches_from(words.split(' '))
    }

    #[test]
    fn every_setting_has_one_name() {
        fn walk(command: &clap::Command) {
            for arg in command.get_arguments() {
                let Some(variable) = arg.get_env() else { continue };
                let id = arg.get_id().as_str();
                assert_eq!(variable.to_str().unwrap(), format!("NACRE_{}", id.to_uppercase()), "{id}");
                assert_eq!(arg.get_long().unwrap(), id.replace('_', "-"), "{id}");
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_what_is_built_in() {
        let file = "listen = \"127.0.0.1:1\"\nanonymous = true\noutput = \"json\"\n";
        let matches = parse(file, "nacre serve").unwrap();
        let serve = matches.subcommand_matches("serve").unwrap();
        assert_eq!(serve.get_one::<String>("listen").unwrap(), "127.0.0.1:1");
        assert!(serve.get_flag("anonymous"));
        let matches = parse(file, "nacre serve --listen 127.0.0.1:2").unwrap();
        assert_eq!(
            matches.subcommand_matches("serve").unwrap().get_one::<String>("listen").unwrap(),
            "127.0.0.1:2"
        );
        let cli = Cli::from_arg_matches(&matches).unwrap();
        assert_eq!(cli.global.output, crate::output::Format::Json);
    }

    #[test]
    fn the_file_names_only_settings() {
        let error = File::parse("lisen = 1", Path::new("n.toml")).unwrap_err();
        assert!(
            error.detail().contains("lisen is no setting") && error.detail().contains("listen"),
            "{error}"
        );
        assert_eq!(File::parse("listen = [1]", Path::new("n.toml")).unwrap_err().code(), "config-invalid");
        assert_eq!(File::parse("=", Path::new("n.toml")).unwrap_err().code(), "config-invalid");
        // What has no variable is no setting.
        assert!(File::parse("ttl = 1", Path::new("n.toml")).is_err());
    }

    #[test]
    fn a_wrong_value_in_the_file_is_refused_by_the_same_parser() {
        assert!(parse("output = \"xml\"", "nacre doctor").is_err());
    }

    #[test]
    fn the_origin_of_each_setting_is_told_and_secrets_are_not() {
        let file = File::parse("data = \"/d\"", Path::new("n.toml")).unwrap();
        let words = "nacre --token canary config show --listen 127.0.0.1:3";
        let matches = file.under(Cli::command()).try_get_matches_from(words.split(' ')).unwrap();
        let (_, config) = matches.subcommand().unwrap();
        let (_, show) = config.subcommand().unwrap();
        let all = in_force(show, &file);
        let find = |name: &str| all.iter().find(|one| one.setting == name).unwrap();
        assert_eq!((find("listen").from, find("listen").value.as_deref()), ("flag", Some("127.0.0.1:3")));
        assert_eq!((find("data").from, find("data").value.as_deref()), ("file", Some("/d")));
        assert_eq!(find("output").from, "built in");
        assert!(!format!("{all:?}").contains("canary"));
    }

    #[test]
    fn the_file_is_named_by_the_flag() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(named_file(&words("nacre --config a.toml get")), Some("a.toml".into()));
        assert_eq!(named_file(&words("nacre get --config=b.toml")), Some("b.toml".into()));
    }
}

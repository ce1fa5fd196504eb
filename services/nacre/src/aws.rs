//! How an S3 store and a DynamoDB catalog are reached: from the variables and files that every tool for AWS reads, under their names.
//!
//! | what | from, first found |
//! |---|---|
//! | keys | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`; the profile's; `AWS_WEB_IDENTITY_TOKEN_FILE` with `AWS_ROLE_ARN`; the ECS task's or EKS pod's; the machine's role |
//! | region | `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's |
//! | endpoint | `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL_DYNAMODB`, `AWS_ENDPOINT_URL`, the profile's `endpoint_url` |
//! | bucket in the path | `AWS_S3_FORCE_PATH_STYLE`, else with an endpoint |
//! | plain http | `AWS_ALLOW_HTTP` |
//!
//! The profile is that of `AWS_PROFILE`, else `default`, in `AWS_SHARED_CREDENTIALS_FILE` or `~/.aws/credentials`, and
//! in `AWS_CONFIG_FILE` or `~/.aws/config`. Its keys are read once, at the start. A profile that gets its keys from a
//! login, another role or a program is told how to hand them over: to play those parts is the AWS tool's work.

use nacre_catalog::DynamoSettings;
use nacre_store::{AwsCredentials, S3Settings};
use nacre_types::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The settings for a store's URL; nothing is read where it is no S3 store's.
///
/// # Errors
/// `Invalid` (`store-settings`) naming what does not fit.
pub(crate) fn settings_for(url: &str) -> Result<S3Settings> {
    if !url.starts_with("s3:") {
        return Ok(S3Settings::default());
    }
    Surroundings { variable: &variable, file: &file }.settings()
}

/// The settings of catalogs in DynamoDB.
///
/// # Errors
/// `Invalid` (`store-settings`) naming what does not fit.
#[cfg_attr(not(feature = "dynamodb"), allow(dead_code, reason = "nobody asks without that feature"))]
pub(crate) fn dynamo_settings() -> Result<DynamoSettings> {
    Surroundings { variable: &variable, file: &file }.dynamo()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn file(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// What is around the program.
struct Surroundings<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    file: &'a dyn Fn(&Path) -> Option<String>,
}

type Profile = BTreeMap<String, String>;

fn wrong(what: impl Into<String>) -> Error {
    Error::invalid(what).with_code("store-settings")
}

impl Surroundings<'_> {
    fn settings(&self) -> Result<S3Settings> {
        let profile = self.profile()?;
        Ok(S3Settings {
            credentials: self.credentials(&profile)?,
            region: self.region(&profile),
            endpoint: self.endpoint(&profile, "AWS_ENDPOINT_URL_S3"),
            path_style: self.flag("AWS_S3_FORCE_PATH_STYLE")?,
            allow_http: self.flag("AWS_ALLOW_HTTP")?.unwrap_or(false),
        })
    }

    fn dynamo(&self) -> Result<DynamoSettings> {
        let profile = self.profile()?;
        Ok(DynamoSettings {
            credentials: self.credentials(&profile)?,
            region: self.region(&profile),
            endpoint: self.endpoint(&profile, "AWS_ENDPOINT_URL_DYNAMODB"),
            allow_http: self.flag("AWS_ALLOW_HTTP")?.unwrap_or(false),
        })
    }

    fn region(&self, profile: &Profile) -> Option<String> {
        self.first(profile, &["AWS_REGION", "AWS_DEFAULT_REGION"], "region")
    }

    fn endpoint(&self, profile: &Profile, own: &str) -> Option<String> {
        self.first(profile, &[own, "AWS_ENDPOINT_URL"], "endpoint_url")
    }

    fn first(&self, profile: &Profile, names: &[&str], key: &str) -> Option<String> {
        names.iter().find_map(|name| (self.variable)(name)).or_else(|| profile.get(key).cloned())
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        match (self.variable)(name).map(|text| text.to_ascii_lowercase()).as_deref() {
            None => Ok(None),
            Some("true" | "1" | "yes") => Ok(Some(true)),
            Some("false" | "0" | "no") => Ok(Some(false)),
            Some(_) => Err(wrong(format!("{name}: expected true or false"))),
        }
    }

    fn credentials(&self, profile: &Profile) -> Result<AwsCredentials> {
        let variable = |name: &str| (self.variable)(name);
        match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            (Some(access_key), Some(secret_key)) => {
                let session_token = variable("AWS_SESSION_TOKEN");
                return Ok(AwsCredentials::Keys { access_key, secret_key, session_token });
            }
            (None, None) => {}
            _ => {
                return Err(wrong(
                    "one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set; set both or none",
                ));
            }
        }
        let of_profile = |key: &str| profile.get(key).cloned();
        match (of_profile("aws_access_key_id"), of_profile("aws_secret_access_key")) {
            (Some(access_key), Some(secret_key)) => {
                let session_token = of_profile("aws_session_token");
                return Ok(AwsCredentials::Keys { access_key, secret_key, session_token });
            }
            _ if ["sso_session", "sso_start_url", "role_arn", "credential_process"]
                .iter()
                .any(|key| profile.contains_key(*key)) =>
            {
                let name = self.profile_name();
                return Err(wrong(format!(
                    "the AWS profile {name} has no keys of its own but gets them elsewhere; hand them over with \
                     eval \"$(aws configure export-credentials --profile {name} --format env)\""
                )));
            }
            _ => {}
        }
        if let (Some(token_file), Some(role_arn)) =
            (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN"))
        {
            let session_name = variable("AWS_ROLE_SESSION_NAME");
            let sts_endpoint = variable("AWS_ENDPOINT_URL_STS");
            return Ok(AwsCredentials::WebIdentity { token_file, role_arn, session_name, sts_endpoint });
        }
        if let Some(relative_uri) = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            return Ok(AwsCredentials::Task { relative_uri });
        }
        if let (Some(uri), Some(token_file)) = (
            variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        ) {
            return Ok(AwsCredentials::Pod { uri, token_file });
        }
        if self.flag("AWS_EC2_METADATA_DISABLED")? == Some(true) {
            return Err(wrong(
                "no keys for AWS: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            ));
        }
        Ok(match variable("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
            Some(url) => AwsCredentials::MachineAt(url),
            None => AwsCredentials::Machine,
        })
    }

    fn profile_name(&self) -> String {
        (self.variable)("AWS_PROFILE").unwrap_or_else(|| "default".to_owned())
    }

    /// What both files say of the profile; the file of credentials wins.
    fn profile(&self) -> Result<Profile> {
        let name = self.profile_name();
        let home = (self.variable)("HOME").map(PathBuf::from);
        let place = |variable: &str, file: &str| {
            (self.variable)(variable)
                .map(PathBuf::from)
                .or_else(|| Some(home.as_ref()?.join(".aws").join(file)))
        };
        let text = |place: Option<PathBuf>| place.and_then(|path| (self.file)(&path)).unwrap_or_default();
        let config = text(place("AWS_CONFIG_FILE", "config"));
        let credentials = text(place("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
        let found = [
            section(&config, &format!("profile {name}")),
            if name == "default" { section(&config, &name) } else { None },
            section(&credentials, &name),
        ];
        let is_named = (self.variable)("AWS_PROFILE").is_some();
        if is_named && found.iter().all(Option::is_none) {
            return Err(wrong(format!(
                "AWS_PROFILE: there is no profile {name} in ~/.aws/config or ~/.aws/credentials"
            )));
        }
        Ok(found.into_iter().flatten().flatten().collect())
    }
}

/// The lines `key = value` of a section; those that are indented belong to a setting of their own, and are left out.
fn section(text: &str, name: &str) -> Option<Profile> {
    let mut inside = false;
    let mut found: Option<Profile> = None;
    for line in text.lines() {
        let is_indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = title.split_whitespace().collect::<Vec<_>>().join(" ") == name;
            if inside {
                found.get_or_insert_default();
            }
        } else if inside
            && !is_indented
            && !line.starts_with(['#', ';'])
            && let (Some((key, value)), Some(found)) = (line.split_once('='), found.as_mut())
        {
            found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)], files: &[(&str, &str)]) -> Result<S3Settings> {
        let find = |list: &[(&str, &str)], name: &str| {
            list.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
        };
        let variable = |name: &str| find(variables, name);
        let file = |path: &Path| find(files, &path.display().to_string());
        Surroundings { variable: &variable, file: &file }.settings()
    }

    fn keys(id: &str) -> AwsCredentials {
        AwsCredentials::Keys { access_key: id.into(), secret_key: "s".into(), session_token: None }
    }

    const HOME: (&str, &str) = ("HOME", "/h");
    const CREDENTIALS: (&str, &str) = (
        "/h/.aws/credentials",
        "# mine\n[default]\naws_access_key_id = d\naws_secret_access_key=s\n\n[other]\naws_access_key_id=o\n\
         aws_secret_access_key=s\n",
    );
    const CONFIG: (&str, &str) = (
        "/h/.aws/config",
        "[default]\nregion = eu-west-1\ns3 =\n  region = nonsense\n[profile other]\nregion=eu-west-3\n\
         endpoint_url = https://s.example\n[profile far]\nsso_session = x\n",
    );

    #[test]
    fn variables_win_over_the_profile() {
        let variables = [
            HOME,
            ("AWS_ACCESS_KEY_ID", "v"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_REGION", "us-west-2"),
            ("AWS_ENDPOINT_URL_S3", "http://h:1"),
            ("AWS_ENDPOINT_URL", "http://other"),
            ("AWS_ALLOW_HTTP", "true"),
        ];
        let found = settings(&variables, &[CREDENTIALS, CONFIG]).unwrap();
        let expected = S3Settings {
            credentials: keys("v"),
            region: Some("us-west-2".into()),
            endpoint: Some("http://h:1".into()),
            path_style: None,
            allow_http: true,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn dynamodb_has_an_endpoint_of_its_own_and_shares_the_rest() {
        let dynamo = |variables: &[(&str, &str)]| {
            let find = |name: &str| {
                variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
            };
            Surroundings { variable: &find, file: &|_| None }.dynamo().unwrap()
        };
        let mut variables = vec![
            ("AWS_ACCESS_KEY_ID", "v"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_REGION", "us-west-2"),
            ("AWS_ENDPOINT_URL_S3", "http://s3"),
        ];
        let found = dynamo(&variables);
        assert_eq!((found.credentials, found.region.as_deref()), (keys("v"), Some("us-west-2")));
        assert_eq!(found.endpoint, None);
        variables.push(("AWS_ENDPOINT_URL", "http://all"));
        assert_eq!(dynamo(&variables).endpoint.as_deref(), Some("http://all"));
        variables.push(("AWS_ENDPOINT_URL_DYNAMODB", "http://dynamo"));
        assert_eq!(dynamo(&variables).endpoint.as_deref(), Some("http://dynamo"));
    }

    #[test]
    fn a_profile_has_keys_region_and_endpoint() {
        let found = settings(&[HOME], &[CREDENTIALS, CONFIG]).unwrap();
        assert_eq!((found.credentials, found.region.as_deref()), (keys("d"), Some("eu-west-1")));
        let found = settings(&[HOME, ("AWS_PROFILE", "other")], &[CREDENTIALS, CONFIG]).unwrap();
        assert_eq!((found.credentials, found.region.as_deref()), (keys("o"), Some("eu-west-3")));
        assert_eq!(found.endpoint.as_deref(), Some("https://s.example"));
    }

    #[test]
    fn roles_are_asked_for_where_there_are_no_keys() {
        assert_eq!(settings(&[], &[]).unwrap().credentials, AwsCredentials::Machine);
        let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "arn:x")];
        assert!(matches!(settings(&web, &[]).unwrap().credentials, AwsCredentials::WebIdentity { .. }));
        let task = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")];
        assert!(matches!(settings(&task, &[]).unwrap().credentials, AwsCredentials::Task { .. }));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (variables, word) in [
            (vec![("AWS_ACCESS_KEY_ID", "canary")], "AWS_SECRET_ACCESS_KEY"),
            (vec![HOME, ("AWS_PROFILE", "none")], "no profile none"),
            (vec![HOME, ("AWS_PROFILE", "far")], "export-credentials --profile far"),
            (vec![("AWS_ALLOW_HTTP", "perhaps")], "AWS_ALLOW_HTTP"),
            (vec![("AWS_EC2_METADATA_DISABLED", "True")], "AWS_ACCESS_KEY_ID"),
        ] {
            let error = settings(&variables, &[CREDENTIALS, CONFIG]).unwrap_err();
            assert!(error.code() == "store-settings" && error.detail().contains(word), "{error}");
            assert!(!error.detail().contains("canary"));
        }
    }
}

//! The keys that requests are signed with: object_store's providers, and what is done when they have nothing to give.
//!
//! Keys of a role are good for hours and are asked for anew some minutes before their end. A metadata service that is
//! silent for a minute must not stop a process whose keys are still good: those that the provider gave out last are
//! used a while longer.

use super::http::{Http, innermost};
use crate::AwsCredentials;
use nacre_runtime::Context;
use nacre_types::{Error, Result};
use object_store::aws::{AmazonS3Builder, AwsCredential, AwsCredentialProvider};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// What a provider gives out is good for 5 minutes more, or it would have asked anew.
const STILL_GOOD: Duration = Duration::from_secs(240);
/// How long a provider may take where there are keys to go on with.
const SOON: Duration = Duration::from_secs(3);
/// How long a provider that failed is left alone where there are keys to go on with.
const LEFT_ALONE: Duration = Duration::from_secs(5);
/// How much of a provider's own words is told.
const WHY_CHARS: usize = 300;

/// Which keys are wanted.
pub(crate) struct Asked<'a> {
    pub(crate) credentials: &'a AwsCredentials,
    pub(crate) region: &'a str,
    /// Whether roles may be asked for where others could listen.
    pub(crate) allow_http: bool,
}

pub(crate) struct Keys {
    provider: AwsCredentialProvider,
    /// The path of the task's credentials, which is a secret itself and stands in a provider's errors.
    secret_path: Option<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was given out last, and when.
    last: Option<(Arc<AwsCredential>, Duration)>,
    /// When the provider failed, if it has given out nothing since.
    failed: Option<Duration>,
}

impl Keys {
    /// # Errors
    /// `Invalid` (`store-settings`).
    pub(crate) fn new(asked: &Asked<'_>, http: &Http) -> Result<Self> {
        let secret_path = match asked.credentials {
            AwsCredentials::Task { relative_uri } => Some(relative_uri.clone()),
            _ => None,
        };
        Ok(Self::of(provider(asked, http)?, secret_path))
    }

    fn of(provider: AwsCredentialProvider, secret_path: Option<String>) -> Self {
        Self { provider, secret_path, state: Mutex::default() }
    }

    /// The keys to sign with now; waits for them at most `limit`.
    ///
    /// # Errors
    /// Why there are none.
    pub(crate) async fn get(&self, ctx: &Context, limit: Duration) -> Result<Arc<AwsCredential>, String> {
        let now = ctx.clock.monotonic();
        let (to_go_on_with, failed) = {
            let state = self.state.lock();
            let is_good = |came: Duration| now.saturating_sub(came) < STILL_GOOD;
            (state.last.clone().filter(|(_, came)| is_good(*came)).map(|(keys, _)| keys), state.failed)
        };
        let is_left_alone = failed.is_some_and(|failed| now.saturating_sub(failed) < LEFT_ALONE);
        if let (Some(keys), true) = (&to_go_on_with, is_left_alone) {
            return Ok(keys.clone());
        }
        let limit = if to_go_on_with.is_some() { limit.min(SOON) } else { limit };
        let why = match tokio::time::timeout(limit, self.provider.get_credential()).await {
            Ok(Ok(keys)) if is_one_word(&keys.key_id) && keys.token.as_deref().is_none_or(is_one_word) => {
                *self.state.lock() = State { last: Some((keys.clone(), now)), failed: None };
                return Ok(keys);
            }
            Ok(Ok(_)) => "they hold a space or a line break".to_owned(),
            Ok(Err(error)) => self.told(&innermost(&error)),
            Err(_) => "they did not come in time".to_owned(),
        };
        self.state.lock().failed = Some(ctx.clock.monotonic());
        match to_go_on_with {
            Some(keys) => {
                if failed.is_none() {
                    tracing::warn!(why, "no new keys for AWS; going on with the old ones");
                }
                Ok(keys)
            }
            None => Err(why),
        }
    }

    fn told(&self, why: &str) -> String {
        let why = match &self.secret_path {
            Some(path) if !path.is_empty() => why.replace(path.as_str(), "/(not shown)"),
            _ => why.to_owned(),
        };
        why.chars().filter(|c| !c.is_control()).take(WHY_CHARS).collect()
    }
}

/// Whether a key can stand in a header.
fn is_one_word(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|c| c.is_ascii_graphic())
}

/// Where keys come from. object_store's builder knows the providers; the client that it builds beside is not used.
fn provider(asked: &Asked<'_>, http: &Http) -> Result<AwsCredentialProvider> {
    use object_store::aws::AmazonS3ConfigKey as Name;
    let wrong = |what: String| Error::invalid(what).with_code("store-settings");
    let mut builder = AmazonS3Builder::new()
        // Wanted by the builder; no key depends on it.
        .with_bucket_name("bucket")
        .with_region(asked.region)
        .with_http_connector(http.clone());
    let mut set = |name: Name, value: Option<&String>| {
        if let Some(value) = value {
            builder = std::mem::take(&mut builder).with_config(name, value);
        }
    };
    match asked.credentials {
        AwsCredentials::Machine => {}
        AwsCredentials::MachineAt(url) => {
            set(Name::MetadataEndpoint, Some(&url.trim_end_matches('/').to_owned()));
        }
        AwsCredentials::Keys { access_key, secret_key, session_token } => {
            if ![Some(access_key), Some(secret_key), session_token.as_ref()]
                .into_iter()
                .flatten()
                .all(|key| is_one_word(key))
            {
                return Err(wrong(
                    "a key is empty or holds a space or a line break; look at AWS_ACCESS_KEY_ID, \
                     AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or at the profile that they come from"
                        .to_owned(),
                ));
            }
            set(Name::AccessKeyId, Some(access_key));
            set(Name::SecretAccessKey, Some(secret_key));
            set(Name::Token, session_token.as_ref());
        }
        AwsCredentials::WebIdentity { token_file, role_arn, session_name, sts_endpoint } => {
            if let Some(endpoint) = sts_endpoint
                && !endpoint.starts_with("https://")
                && !asked.allow_http
            {
                return Err(wrong(
                    "the endpoint that gives roles is not https, and the token that it gets would be there for \
                     everybody on the way; mend AWS_ENDPOINT_URL_STS, or set AWS_ALLOW_HTTP=true if that is meant"
                        .to_owned(),
                ));
            }
            let region = asked.region;
            let in_china =
                region.starts_with("cn-").then(|| format!("https://sts.{region}.amazonaws.com.cn"));
            set(Name::WebIdentityTokenFile, Some(token_file));
            set(Name::RoleArn, Some(role_arn));
            set(Name::RoleSessionName, session_name.as_ref());
            set(Name::StsEndpoint, sts_endpoint.as_ref().or(in_china.as_ref()));
        }
        AwsCredentials::Task { relative_uri } => {
            set(Name::ContainerCredentialsRelativeUri, Some(relative_uri))
        }
        AwsCredentials::Pod { uri, token_file } => {
            set(Name::ContainerCredentialsFullUri, Some(uri));
            set(Name::ContainerAuthorizationTokenFile, Some(token_file));
        }
    }
    let built = builder.build().map_err(|error| wrong(format!("the settings of AWS's keys: {error}")))?;
    Ok(built.credentials().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use nacre_runtime::ManualClock;
    use object_store::CredentialProvider;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Gives out the key of the id, or what it says instead.
    #[derive(Debug, Default)]
    struct Source {
        says: Mutex<Option<Result<&'static str, &'static str>>>,
        asked: AtomicU32,
    }

    #[async_trait]
    impl CredentialProvider for Source {
        type Credential = AwsCredential;
        async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let says = *self.says.lock();
            match says {
                None => std::future::pending().await,
                Some(Ok(id)) => Ok(Arc::new(AwsCredential {
                    key_id: id.to_owned(),
                    secret_key: "s".to_owned(),
                    token: None,
                })),
                Some(Err(why)) => Err(object_store::Error::Generic { store: "S3", source: why.into() }),
            }
        }
    }

    fn keys() -> (Keys, Arc<Source>, Context, Arc<ManualClock>) {
        let (source, clock) = (Arc::new(Source::default()), Arc::new(ManualClock::new(0)));
        let ctx = Context::for_tests(1).with_clock(clock.clone());
        (Keys::of(source.clone(), Some("/v2/canary".to_owned())), source, ctx, clock)
    }

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn keys_that_are_still_good_are_used_while_their_source_is_silent() {
        let (keys, source, ctx, clock) = keys();
        *source.says.lock() = Some(Ok("id"));
        assert_eq!(keys.get(&ctx, LIMIT).await.unwrap().key_id, "id");
        for silent in [None, Some(Err("away"))] {
            *source.says.lock() = silent;
            clock.advance(Duration::from_secs(100));
            for _ in 0..50 {
                assert_eq!(keys.get(&ctx, LIMIT).await.unwrap().key_id, "id");
            }
        }
        assert_eq!(source.asked.load(Ordering::Relaxed), 3, "and it is not asked for every request");
        clock.advance(Duration::from_secs(100));
        assert!(keys.get(&ctx, LIMIT).await.is_err());
        *source.says.lock() = Some(Ok("new"));
        assert_eq!(keys.get(&ctx, LIMIT).await.unwrap().key_id, "new", "at once when it is back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_says_nothing_useful_is_an_error_that_tells_no_secret() {
        let (keys, source, ctx, _) = keys();
        for says in [
            None,
            Some(Err("GET http://169.254.170.2/v2/canary: 404\nforged")),
            Some(Ok("two words")),
            Some(Ok("line\n")),
            Some(Ok("")),
        ] {
            *source.says.lock() = says;
            let why = keys.get(&ctx, LIMIT).await.unwrap_err();
            assert!(!why.is_empty() && !why.contains("canary") && !why.contains('\n'), "{why}");
        }
    }
}

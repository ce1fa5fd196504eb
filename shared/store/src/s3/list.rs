//! Listing: for garbage and the sources of loads, never for the truth.

use super::address::encoded_value;
use super::answer::Page;
use super::ask::Kind;
use super::client::Client;
use crate::{ObjectMeta, ObjectPath};
use http::Method;
use nacre_types::{Error, Result};

/// What S3 gives at most.
const PAGE: usize = 1_000;
/// Pages in a row that may hold nothing for us: a folder of hidden names is passed over by the thousand.
const EMPTY_PAGES: usize = 1_000;

impl Client {
    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectPath>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>> {
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        let mut empty = 0;
        while found.len() < limit {
            let mut query = format!(
                "list-type=2&max-keys={}&prefix={}",
                (limit - found.len()).min(PAGE),
                encoded_value(&self.address.key(prefix))
            );
            match (&next, after) {
                (Some(token), _) => query.push_str(&format!("&continuation-token={}", encoded_value(token))),
                (None, Some(after)) => {
                    let key = self.address.key(after.as_str());
                    query.push_str(&format!("&start-after={}", encoded_value(&key)));
                }
                (None, None) => {}
            }
            let ask = self.ask_bucket(Kind::List, Method::GET, prefix).query(query);
            let answer = self.read(&ask).await?;
            if !answer.status.is_success() {
                return Err(self.refused_read(&ask, &answer));
            }
            let page: Page = answer.xml().ok_or_else(|| {
                strange("what cannot be read as XML (a name that holds a control character makes it so)")
            })?;
            let before = found.len();
            for listed in &page.objects {
                let Some(name) = self.address.below(&listed.key) else {
                    return Err(strange(&format!("{:?}, which has not the prefix asked for", listed.key)));
                };
                if is_passed_over(name) {
                    continue;
                }
                // A stranger's name is an error, not a file that a load leaves out in silence.
                found.push(listed.meta(ObjectPath::new(name)?)?);
            }
            empty = if found.len() > before { 0 } else { empty + 1 };
            if empty > EMPTY_PAGES {
                return Err(strange("pages without end that have nothing in them"));
            }
            match page.next {
                Some(token) if page.is_truncated && next.as_ref() == Some(&token) => {
                    return Err(strange("the same page again"));
                }
                Some(token) if page.is_truncated => next = Some(token),
                _ if page.is_truncated => return Err(strange("a page that goes on nowhere")),
                _ => break,
            }
        }
        // A server that does not know max-keys.
        found.truncate(limit);
        if !found.is_sorted_by(|a, b| a.path < b.path) {
            return Err(strange("names out of order"));
        }
        Ok(found)
    }
}

fn strange(what: &str) -> Error {
    Error::unavailable(format!("the store lists {what}; is it an S3 store?")).with_code("store-endpoint")
}

/// What a local directory would not show either: marks of folders, which consoles and Spark make, and hidden names.
fn is_passed_over(name: &str) -> bool {
    name.ends_with('/') || name.is_empty() || name.split('/').any(|segment| segment.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::is_passed_over;

    #[test]
    fn marks_of_folders_and_hidden_names_are_passed_over() {
        for name in ["", "a/", "staging/1/", ".a", "a/.b/c", "a/.part-0.crc"] {
            assert!(is_passed_over(name), "{name}");
        }
        assert!(!is_passed_over("a/b.c"));
    }
}

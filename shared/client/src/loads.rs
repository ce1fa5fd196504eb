//! Bulk loads.

use crate::query::Target;
use crate::{Client, TableRef};
use bytes::Bytes;
use nacre_api::{BeginLoadBody, CommitLoadBody, LoadBody, LoadFileBody, LoadsBody, encode_segment, headers};
use nacre_types::{Error, ErrorKind, Result};
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Method};
use std::path::PathBuf;
use std::time::Duration;

/// How long the upload of one file may take.
const UPLOAD: Duration = Duration::from_secs(6 * 3_600);

/// The bytes of a file that is put into a load.
#[derive(Debug, Clone)]
pub enum UploadBody {
    /// A file of this machine; it is read as it is sent.
    File(PathBuf),
    /// These.
    Bytes(Bytes),
}

/// What is done with a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadAction {
    /// Pin the files and make everything ready, but show nothing.
    Prepare,
    /// Make it visible.
    Commit,
    /// Give it up.
    Cancel,
    /// Take it back.
    Revert,
}

impl LoadAction {
    /// Its word in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Commit => "commit",
            Self::Cancel => "cancel",
            Self::Revert => "revert",
        }
    }
}

fn load_path(table: &TableRef, id: &str) -> String {
    let mut path = format!("{}/loads/", table.path());
    encode_segment(&mut path, id.as_bytes());
    path
}

impl Client {
    /// Begins a load. With an idempotency key a repeat gives the newest attempt that is not over without effect.
    ///
    /// # Errors
    /// `Conflict` for the same key with another body; what the server says.
    pub async fn begin_load(
        &self,
        table: &TableRef,
        body: &BeginLoadBody,
        idempotency_key: Option<&str>,
    ) -> Result<LoadBody> {
        let mut request = self.request(Method::POST, &format!("{}/loads", table.path())).json(body);
        if let Some(key) = idempotency_key {
            request = request.header(headers::IDEMPOTENCY_KEY, key);
        }
        let response = self.write(request).await?;
        self.json(response, ErrorKind::Unknown).await
    }

    /// Puts a Parquet file into a load that is open. `name` is a path below the load's staging place.
    ///
    /// # Errors
    /// `NotFound` (`file-unreadable`) where the file cannot be read; what the server says. The same file may be put
    /// again.
    pub async fn put_load_file(
        &self,
        table: &TableRef,
        id: &str,
        name: &str,
        body: UploadBody,
    ) -> Result<()> {
        let mut path = format!("{}/files/", load_path(table, id));
        for (at, segment) in name.split('/').enumerate() {
            if at > 0 {
                path.push('/');
            }
            encode_segment(&mut path, segment.as_bytes());
        }
        let request = self.long_request(Method::PUT, &path, UPLOAD);
        let request = match body {
            UploadBody::Bytes(bytes) => request.body(bytes),
            UploadBody::File(file) => {
                let unreadable = |error: std::io::Error| {
                    Error::not_found(format!("{}: {error}", file.display())).with_code("file-unreadable")
                };
                let opened = std::fs::File::open(&file).map_err(unreadable)?;
                let length = opened.metadata().map_err(unreadable)?.len();
                request.header(CONTENT_LENGTH, length).body(Body::from(tokio::fs::File::from_std(opened)))
            }
        };
        self.write(request).await.map(|_| ())
    }

    /// Does something with a load, and answers where it stands then; a commit goes on by itself.
    ///
    /// # Errors
    /// `Conflict` where the load is in no state for it; what the server says.
    pub async fn load_action(
        &self,
        table: &TableRef,
        id: &str,
        action: LoadAction,
        body: &CommitLoadBody,
    ) -> Result<LoadBody> {
        let path = format!("{}:{}", load_path(table, id), action.name());
        let request = self.request(Method::POST, &path);
        let request = match action {
            LoadAction::Prepare | LoadAction::Commit => request.json(body),
            LoadAction::Cancel | LoadAction::Revert => request,
        };
        let response = self.write(request).await?;
        let load: LoadBody = self.json(response, ErrorKind::Unknown).await?;
        self.sessions.wrote(table, load.token.clone());
        Ok(load)
    }

    /// A load.
    ///
    /// # Errors
    /// `NotFound`; what the server says.
    pub async fn load(&self, table: &TableRef, id: &str) -> Result<LoadBody> {
        let load: LoadBody = self.get_json(&load_path(table, id)).await?;
        self.sessions.wrote(table, load.token.clone());
        Ok(load)
    }

    /// The loads of a table, newest first.
    ///
    /// # Errors
    /// What the server says.
    pub async fn loads(&self, table: &TableRef) -> Result<Vec<LoadBody>> {
        let mut all = Vec::new();
        let mut page_token = None;
        loop {
            let mut target = Target::new(format!("{}/loads", table.path()));
            target.add_some("page_token", page_token);
            let page: LoadsBody = self.get_json(&target.into_text()).await?;
            all.extend(page.loads);
            page_token = match page.next_page_token {
                Some(token) => Some(token),
                None => return Ok(all),
            };
        }
    }

    /// What became of each file of a load.
    ///
    /// # Errors
    /// What the server says.
    pub async fn load_files(&self, table: &TableRef, id: &str) -> Result<Vec<LoadFileBody>> {
        self.get_json(&format!("{}/files", load_path(table, id))).await
    }
}

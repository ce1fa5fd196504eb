//! What S3 promises beyond puts, and servers of its protocol have been seen to ignore in silence.

use super::ask::Kind;
use super::client::Client;
use super::copy::copy_part;
use crate::probe::unfit;
use crate::{GetOptions, ObjectPath, ObjectTag, PutOutcome};
use bytes::Bytes;
use nacre_types::Result;

/// An upload must not take the place of what is there (gofakes3 lets it), a part must not be copied from a source that
/// has another tag, and where the bucket keeps versions this program must be allowed to read one by its id.
pub(super) async fn check(client: &Client, taken: &ObjectPath) -> Result<()> {
    let tag = client.head(taken, None).await?.tag;
    if tag.version_id.is_some() {
        client.get(taken, &GetOptions { if_tag: Some(tag), ..GetOptions::default() }).await?;
    }
    let id = client.begin_upload(taken, Kind::Upload).await?;
    let ended = async {
        // The last part of an upload may be as small as this.
        let part = client.put_part(taken, &id, 1, Bytes::from_static(b"1")).await?;
        client.finish_upload(taken, &id, &[part], Kind::Upload).await
    };
    match ended.await {
        Ok(PutOutcome::Stored(_)) => {
            return Err(unfit(
                "the end of an upload, if absent: it took the place of an object that was there",
            ));
        }
        ended => {
            client.abort_upload(taken, &id).await;
            ended?;
        }
    }
    let id = client.begin_upload(taken, Kind::Copy).await?;
    let other = ObjectTag { etag: "00000000000000000000000000000000".to_owned(), version_id: None };
    let copied = copy_part(client, taken, taken, &other, &id, 1, None).await;
    client.abort_upload(taken, &id).await;
    match copied? {
        None => Ok(()),
        Some(_) => Err(unfit("a copied part, if its source is unchanged: it was copied under another tag")),
    }
}

//! Access tokens: of a namespace, or without one of the whole store.

use crate::Client;
use crate::query::Target;
use nacre_api::{CreateTokenBody, CreatedTokenBody, TokenBody, TokenPatch, TokensBody};
use nacre_types::{NamespaceName, Result};
use reqwest::Method;

fn collection(namespace: Option<&NamespaceName>) -> String {
    namespace.map_or_else(|| "/v1/tokens".to_owned(), |name| format!("/v1/namespaces/{name}/tokens"))
}

fn one(namespace: Option<&NamespaceName>, id: &str) -> String {
    let mut path = collection(namespace);
    path.push('/');
    nacre_api::encode_segment(&mut path, id.as_bytes());
    path
}

impl Client {
    /// Makes a token. Its text is in this answer and nowhere again.
    ///
    /// # Errors
    /// What the server says.
    pub async fn create_token(
        &self,
        namespace: Option<&NamespaceName>,
        body: &CreateTokenBody,
    ) -> Result<CreatedTokenBody> {
        self.change(Method::POST, &collection(namespace), body).await.map(|(_, made)| made)
    }

    /// The tokens, without their secrets.
    ///
    /// # Errors
    /// What the server says.
    pub async fn tokens(&self, namespace: Option<&NamespaceName>) -> Result<Vec<TokenBody>> {
        let mut all = Vec::new();
        let mut page_token = None;
        loop {
            let mut target = Target::new(collection(namespace));
            target.add_some("page_token", page_token);
            let page: TokensBody = self.get_json(&target.into_text()).await?;
            all.extend(page.tokens);
            page_token = match page.next_page_token {
                Some(token) => Some(token),
                None => return Ok(all),
            };
        }
    }

    /// A token.
    ///
    /// # Errors
    /// `NotFound`; what the server says.
    pub async fn token(&self, namespace: Option<&NamespaceName>, id: &str) -> Result<TokenBody> {
        self.get_json(&one(namespace, id)).await
    }

    /// Changes a token's name or expiry.
    ///
    /// # Errors
    /// `NotFound`; what the server says.
    pub async fn update_token(
        &self,
        namespace: Option<&NamespaceName>,
        id: &str,
        patch: &TokenPatch,
    ) -> Result<TokenBody> {
        self.change(Method::PATCH, &one(namespace, id), patch).await.map(|(_, token)| token)
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// `NotFound`; what the server says.
    pub async fn revoke_token(&self, namespace: Option<&NamespaceName>, id: &str) -> Result<()> {
        self.write(self.request(Method::DELETE, &one(namespace, id))).await.map(|_| ())
    }
}

//! Tokens over a catalog, plain and with lost answers.

use super::*;
use crate::grant::Verbs;
use bytes::Bytes;
use nacre_catalog::{Append, EncodedEdit, LogHead, ObjectCatalog, RecordTag, SnapshotRef};
use nacre_store::MemoryStore;
use nacre_store::testing::FaultyStore;
use nacre_types::{ErrorKind, NamespaceName, Seq, TableId, TableName};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

fn tokens() -> (Tokens, Arc<FaultyStore>, Context) {
    let ctx = Context::for_tests(1);
    let store = FaultyStore::new(Arc::new(MemoryStore::new(&ctx)), 1);
    let catalog = Arc::new(ObjectCatalog::new(Arc::new(store.clone()), "catalog", &ctx).unwrap());
    (Tokens::new(catalog, &ctx), store, ctx)
}

fn home() -> Home {
    Home::Namespace(NamespaceName::new("n").unwrap())
}

fn grant(home: Home, verbs: Verbs) -> Grant {
    Grant { home, verbs, tables: None, prefix: None }
}

fn new(grant: Grant) -> NewToken {
    NewToken { name: "job".to_owned(), grant, expires_at_micros: None }
}

#[tokio::test]
async fn a_token_is_made_listed_changed_and_revoked() {
    let (tokens, _, ctx) = tokens();
    let (made, secret) = tokens.create(new(grant(home(), Verbs::ALL)), None).await.unwrap();
    let (operator, _) = tokens.create(new(grant(Home::Store, Verbs::ALL)), None).await.unwrap();
    assert!(made.is_of(&secret) && made.id == secret.id);
    assert_eq!(tokens.list(&home()).await.unwrap(), std::slice::from_ref(&made));
    assert_eq!(tokens.list(&Home::Store).await.unwrap(), [operator]);
    let expires = ctx.clock.now_micros() + 60_000_000;
    let change = Change { name: Some("other".to_owned()), expires_at_micros: Some(Some(expires)) };
    let changed = tokens.update(&home(), made.id, &change, None).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.expires_at_micros), ("other", Some(expires)));
    assert_eq!(tokens.get(&home(), made.id).await.unwrap(), changed);
    assert!(!changed.is_expired(expires - 1) && changed.is_expired(expires));
    // By another home it is not found.
    assert_eq!(tokens.revoke(&Home::Store, made.id).await.unwrap_err().code(), "token-not-found");
    tokens.revoke(&home(), made.id).await.unwrap();
    assert_eq!(tokens.get(&home(), made.id).await.unwrap_err().code(), "token-not-found");
    assert_eq!(tokens.revoke(&home(), made.id).await.unwrap_err().code(), "token-not-found");
}

#[tokio::test]
async fn settings_of_tokens_are_checked() {
    let (tokens, _, ctx) = tokens();
    let table = |name: String| TableName::new(&name).unwrap();
    let many: Vec<TableName> = (0..=MOST_TABLES).map(|n| table(format!("t{n}"))).collect();
    let good = new(grant(home(), Verbs::ALL));
    let wrong = [
        NewToken { name: String::new(), ..good.clone() },
        NewToken { name: "a\nb".to_owned(), ..good.clone() },
        NewToken { name: "x".repeat(NAME_BYTES + 1), ..good.clone() },
        NewToken { expires_at_micros: Some(ctx.clock.now_micros() - 1), ..good.clone() },
        new(grant(home(), Verbs::default())),
        new(Grant { tables: Some(Vec::new()), ..good.grant.clone() }),
        new(Grant { tables: Some(many), ..good.grant.clone() }),
        new(Grant { prefix: Some(Bytes::new()), ..good.grant.clone() }),
        new(Grant { prefix: Some(vec![0; limits::KEY_BYTES + 1].into()), ..good.grant.clone() }),
        new(Grant { prefix: Some(Bytes::from_static(b"p")), ..grant(Home::Store, Verbs::ALL) }),
        new(Grant { tables: Some(vec![table("t".to_owned())]), ..grant(Home::Store, Verbs::ALL) }),
    ];
    for new in wrong {
        let error = tokens.create(new.clone(), None).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "token-settings"), "{new:?}");
    }
    let twice = vec![table("u".to_owned()), table("t".to_owned()), table("u".to_owned())];
    let (made, _) = tokens.create(new(Grant { tables: Some(twice), ..good.grant }), None).await.unwrap();
    assert_eq!(made.grant.tables.unwrap(), [table("t".to_owned()), table("u".to_owned())]);
}

#[tokio::test]
async fn nobody_gives_what_he_does_not_have() {
    let (tokens, _, ctx) = tokens();
    let soon = ctx.clock.now_micros() + 60_000_000;
    let verbs: Verbs = [Verb::Admin, Verb::Read].into_iter().collect();
    let mine = NewToken { expires_at_micros: Some(soon), ..new(grant(home(), verbs)) };
    let (mine, _) = tokens.create(mine, None).await.unwrap();
    let read: Verbs = [Verb::Read].into_iter().collect();
    let within = NewToken { expires_at_micros: Some(soon), ..new(grant(home(), read)) };
    let (given, _) = tokens.create(within.clone(), Some(&mine)).await.unwrap();
    let elsewhere = Home::Namespace(NamespaceName::new("m").unwrap());
    for beyond in [
        NewToken { expires_at_micros: None, ..within.clone() },
        NewToken { expires_at_micros: Some(soon + 1), ..within.clone() },
        NewToken { grant: grant(home(), Verbs::ALL), ..within.clone() },
        NewToken { grant: grant(elsewhere, read), ..within.clone() },
        NewToken { grant: grant(Home::Store, read), ..within.clone() },
    ] {
        let error = tokens.create(beyond.clone(), Some(&mine)).await.unwrap_err();
        assert_eq!(error.code(), "forbidden-escalation", "{beyond:?}");
    }
    let longer = Change { expires_at_micros: Some(None), ..Change::default() };
    let error = tokens.update(&home(), given.id, &longer, Some(&mine)).await.unwrap_err();
    assert_eq!(error.code(), "forbidden-escalation");
}

#[tokio::test]
async fn an_operator_is_one_that_can_make_tokens_now() {
    let (tokens, _, _) = tokens();
    assert!(!tokens.has_operator().await.unwrap());
    let read: Verbs = [Verb::Read].into_iter().collect();
    tokens.create(new(grant(Home::Store, read)), None).await.unwrap();
    tokens.create(new(grant(home(), Verbs::ALL)), None).await.unwrap();
    assert!(!tokens.has_operator().await.unwrap());
    tokens.create(new(grant(Home::Store, Verbs::ALL)), None).await.unwrap();
    assert!(tokens.has_operator().await.unwrap());
}

#[tokio::test]
async fn a_shelf_has_a_most() {
    let (tokens, store, _) = tokens();
    let (first, _) = tokens.create(new(grant(home(), Verbs::ALL)), None).await.unwrap();
    let name = record_name(shelf_of(&home()));
    let catalog = ObjectCatalog::new(Arc::new(store), "catalog", &Context::for_tests(2)).unwrap();
    let (_, tag) = catalog.record(&name).await.unwrap().unwrap();
    let full: Vec<Token> =
        (0..MOST_TOKENS as u128).map(|n| Token { id: TokenId(n), ..first.clone() }).collect();
    catalog.put_record(&name, Some(&tag), encode(&full)).await.unwrap();
    let error = tokens.create(new(grant(home(), Verbs::ALL)), None).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "too-many-tokens"));
    tokens.revoke(&home(), TokenId(0)).await.unwrap();
    tokens.create(new(grant(home(), Verbs::ALL)), None).await.unwrap();
}

/// A catalog whose puts of records happen, and are not known to have for a while.
#[derive(Debug)]
struct Forgetful(Arc<dyn Catalog>, AtomicU32);

#[async_trait::async_trait]
impl Catalog for Forgetful {
    async fn append(&self, table: TableId, expected: Seq, edit: &EncodedEdit) -> Result<Append> {
        self.0.append(table, expected, edit).await
    }
    async fn read(&self, table: TableId, after: Seq, limit: usize) -> Result<Vec<(Seq, EncodedEdit)>> {
        self.0.read(table, after, limit).await
    }
    async fn head(&self, table: TableId) -> Result<LogHead> {
        self.0.head(table).await
    }
    async fn set_head(&self, table: TableId, snapshot: SnapshotRef) -> Result<()> {
        self.0.set_head(table, snapshot).await
    }
    async fn record(&self, name: &str) -> Result<Option<(Bytes, RecordTag)>> {
        self.0.record(name).await
    }
    async fn put_record(&self, name: &str, expected: Option<&RecordTag>, bytes: Bytes) -> Result<RecordPut> {
        let put = self.0.put_record(name, expected, bytes).await?;
        Ok(if self.1.fetch_add(1, Relaxed).is_multiple_of(2) { RecordPut::Unknown } else { put })
    }
}

#[tokio::test]
async fn lost_answers_make_no_second_token_and_no_failed_revocation() {
    let (plain, _, ctx) = tokens();
    let tokens = Tokens::new(Arc::new(Forgetful(plain.catalog.clone(), AtomicU32::new(0))), &ctx);
    for _ in 0..3 {
        let (made, _) = tokens.create(new(grant(home(), Verbs::ALL)), None).await.unwrap();
        assert_eq!(plain.list(&home()).await.unwrap(), std::slice::from_ref(&made));
        let change = Change { name: Some("x".to_owned()), ..Change::default() };
        // Odd and even puts take turns: this one is answered, the next is not.
        let extra = tokens.create(new(grant(home(), Verbs::ALL)), None);
        tokens.update(&home(), made.id, &change, None).await.unwrap();
        let (extra, _) = extra.await.unwrap();
        tokens.revoke(&home(), made.id).await.unwrap();
        tokens.revoke(&home(), extra.id).await.unwrap();
        assert!(plain.list(&home()).await.unwrap().is_empty());
    }
}

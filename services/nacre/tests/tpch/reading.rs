//! Reading everything, by every way there is, and comparing it with what must be there.

use std::collections::BTreeSet;
use std::sync::Arc;

use nacre_api::{JsonKey, PlaceBody, ReadStatus, batch};
use nacre_client::{Client, KeyText, ReadOptions, ScanOptions, TableRef};
use nacre_types::Consistency;
use reqwest::header::CONTENT_TYPE;
use tokio::task::JoinSet;

use crate::data::Row;
use crate::server::{Server, table_ref};

/// Keys of one batch: as many as may be asked for at once.
const KEYS: usize = 1_000;
/// Batches on their way at once.
const AT_ONCE: usize = 4;

/// How a batch is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    Json,
    Binary,
}

/// Gets every row by its key, and compares; answers how many there were.
pub(crate) async fn get_all(
    server: &Server,
    table: &str,
    rows: impl Iterator<Item = Row>,
    form: Form,
) -> u64 {
    let mut rows = rows.peekable();
    let (mut tasks, mut count) = (JoinSet::new(), 0);
    nacre_tls::install_provider();
    let (client, http, url) = (
        Arc::new(server.client()),
        crate::server::http(),
        format!("{}{}", server.api, table_ref(table).path()),
    );
    while rows.peek().is_some() {
        let chunk: Vec<Row> = rows.by_ref().take(KEYS).collect();
        count += chunk.len() as u64;
        if tasks.len() == AT_ONCE {
            tasks.join_next().await.unwrap().unwrap();
        }
        match form {
            Form::Json => tasks.spawn(get_json(client.clone(), table_ref(table), chunk)),
            Form::Binary => tasks.spawn(get_binary(http.clone(), url.clone(), chunk)),
        };
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    count
}

async fn get_json(client: Arc<Client>, table: TableRef, rows: Vec<Row>) {
    let keys = rows.iter().map(|row| JsonKey::Parts(row.json_parts())).collect();
    let answer = client.batch_get(&table, keys, &strong()).await.unwrap();
    assert_eq!(answer.rows.len(), rows.len());
    for (got, wanted) in answer.rows.iter().zip(&rows) {
        let found = (got.status, got.value.as_deref(), got.version.map(|version| version.0));
        assert_eq!(found, (ReadStatus::Found, Some(&wanted.value[..]), Some(wanted.version)), "{wanted:?}");
        assert_eq!(got.key, JsonKey::Parts(wanted.json_parts()));
    }
}

/// What was loaded just now is there for all.
fn strong() -> ReadOptions {
    ReadOptions { consistency: Some(Consistency::Strong), ..ReadOptions::default() }
}

async fn get_binary(http: reqwest::Client, url: String, rows: Vec<Row>) {
    let body = batch::get_request(rows.iter().map(|row| &row.key[..]), false);
    let answer = http
        .post(format!("{url}/rows:batchGet?consistency=strong"))
        .header(CONTENT_TYPE, batch::MEDIA_TYPE)
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let (got, _) = batch::parse_get_answer(answer.bytes().await.unwrap()).unwrap();
    assert_eq!(got.len(), rows.len());
    for (got, wanted) in got.iter().zip(&rows) {
        let Some((version, expires_at, value)) = &got.row else {
            panic!("{wanted:?} is {:?}", got.status);
        };
        assert_eq!((*version, *expires_at), (wanted.version, None), "{wanted:?}");
        assert_eq!(&value[..], wanted.value.as_bytes(), "{wanted:?}");
    }
}

/// Scans the whole table page by page: the rows, all of them, in order, and no other.
pub(crate) async fn scan_all(server: &Server, table: &str, mut rows: impl Iterator<Item = Row>) -> u64 {
    let (client, table) = (server.client(), table_ref(table));
    let mut which = ScanOptions { page_size: Some(KEYS as u64), ..ScanOptions::default() };
    let (mut count, mut edition) = (0, None);
    loop {
        let page = client.scan(&table, &which, &strong()).await.unwrap();
        assert_eq!(*edition.get_or_insert(page.edition), page.edition, "a scan has one edition");
        for got in &page.rows {
            let Some(wanted) = rows.next() else { panic!("a row too many: {got:?}") };
            same_row(got, &wanted);
            count += 1;
        }
        match page.next_page_token {
            Some(token) => which.page_token = Some(token),
            None => break,
        }
    }
    let missing = rows.next();
    assert!(missing.is_none(), "after {count} rows the scan ended before {missing:?}");
    count
}

fn same_row(got: &nacre_api::RowOut, wanted: &Row) {
    assert_eq!(got.key, Some(JsonKey::Parts(wanted.json_parts())), "{wanted:?}");
    assert_eq!(
        (got.value.as_deref(), got.version.0),
        (Some(&wanted.value[..]), wanted.version),
        "{wanted:?}"
    );
}

/// The lines of one order in `every`, by the prefix that is its number; answers how many orders.
pub(crate) async fn orders_lines(
    server: &Server,
    table: &str,
    rows: impl Iterator<Item = Row>,
    every: usize,
) -> u64 {
    let (client, table) = (server.client(), table_ref(table));
    let (mut lines, mut orders, mut asked) = (Vec::<Row>::new(), 0, 0);
    for row in rows.map(Some).chain([None]) {
        let goes_on = match (&row, lines.first()) {
            (Some(row), Some(first)) => row.json_parts()[0] == first.json_parts()[0],
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !goes_on {
            if orders % every == 0 {
                prefix(&client, &table, &lines).await;
                asked += 1;
            }
            orders += 1;
            lines.clear();
        }
        lines.extend(row);
    }
    asked
}

async fn prefix(client: &Client, table: &TableRef, lines: &[Row]) {
    let prefix = format!("[{}]", lines[0].json_parts()[0]);
    let which = ScanOptions { prefix: Some(prefix.into_bytes()), ..ScanOptions::default() };
    let page = client.scan(table, &which, &strong()).await.unwrap();
    assert!(page.next_page_token.is_none());
    assert_eq!(page.rows.len(), lines.len(), "{:?}", lines[0]);
    for (got, wanted) in page.rows.iter().zip(lines) {
        same_row(got, wanted);
    }
}

/// The files that serve a table that was loaded once: every one that `explain` names for some row.
pub(crate) async fn serving_files(
    server: &Server,
    table: &str,
    rows: impl Iterator<Item = Row>,
) -> Vec<std::path::PathBuf> {
    let (client, table) = (server.client(), table_ref(table));
    let described = client.table(&table).await.unwrap();
    let every = (described.rows / 1_000).max(1) as usize;
    let mut names = BTreeSet::new();
    for row in rows.step_by(every) {
        let key = KeyText::Text(row.parts.as_bytes());
        let told = client.explain(&table, key, &strong()).await.unwrap();
        let [only] = &told.rows[..] else { panic!("{told:?}") };
        assert!(only.visible, "{told:?}");
        match &only.place {
            PlaceBody::Segment { segment, .. } => names.insert(format!("{segment}.parquet")),
            PlaceBody::Tail { .. } => panic!("{told:?}"),
        };
    }
    assert_eq!(names.len() as u64, described.segments, "every segment serves some row: {names:?}");
    let mut files = Vec::new();
    for job in std::fs::read_dir(server.table_folder(&described.table_id)).unwrap() {
        for file in std::fs::read_dir(job.unwrap().path()).unwrap() {
            let file = file.unwrap();
            if names.contains(&*file.file_name().to_string_lossy()) {
                files.push(file.path());
            }
        }
    }
    assert_eq!(files.len(), names.len());
    files
}

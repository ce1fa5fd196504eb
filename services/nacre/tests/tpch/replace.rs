//! A second load replaces `orders` while clients read and write it; then it is taken back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nacre_api::{
    BatchWriteBody, BatchWriteRow, BeginLoadBody, ColumnsBody, CommitLoadBody, GuardsBody, JsonKey,
    LoadModeBody, LoadVersionBody,
};
use nacre_client::{LoadAction, UploadBody};
use nacre_types::tuple;

use crate::clients::{CLIENTS, Era, Expected, Held, Known, Own, Signals};
use crate::data::{Data, Row};
use crate::server::{Server, table_ref};
use crate::{commit, reading, runtime, told};

/// Keys of the loads that take part in the clients' reads and writes, about.
const SAMPLE: usize = 4_000;
/// How often every client goes round in each era.
const TURNS: u64 = 25;

/// What a table holds: rows by key.
type Contents = BTreeMap<Vec<u8>, Row>;

fn contents(data: &Data, table: &str, version: i64) -> Contents {
    data.rows(table, version).map(|row| (row.key.clone(), row)).collect()
}

fn packed_key(order: i64) -> Vec<u8> {
    tuple::pack(&[tuple::Part::Int64(order)])
}

fn held(contents: &Contents, order: i64) -> Held {
    contents.get(&packed_key(order)).map(|row| (row.value.clone(), row.version))
}

/// Puts what the clients have written over what the load brought.
fn put_over(contents: &mut Contents, order: i64, held: &Held) {
    let key = packed_key(order);
    match held {
        Some((value, version)) => {
            let row = Row {
                key: key.clone(),
                parts: format!("[{order}]"),
                value: value.clone(),
                version: *version,
            };
            contents.insert(key, row);
        }
        None => {
            contents.remove(&key);
        }
    }
}

/// Order numbers of the first load, of the second, of both and of neither, in no order.
fn sample(first: &Contents, second: &Contents) -> Vec<i64> {
    let number = |row: &Row| row.json_parts()[0].as_i64().unwrap();
    let step = (first.len() / SAMPLE).max(1);
    let mut orders: Vec<i64> =
        first.values().step_by(step).chain(second.values().step_by(step)).map(number).collect();
    orders.extend((1..=SAMPLE as i64 / 4).map(|order| -order));
    orders.sort_unstable_by_key(|&order| (order.wrapping_mul(0x5851_F42D_4C95_7F2D), order));
    orders.dedup();
    orders
}

fn now_micros() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as i64
}

fn second_load(data: &Data) -> BeginLoadBody {
    BeginLoadBody {
        mode: LoadModeBody::Replace,
        version: Some(LoadVersionBody::Now),
        source: None,
        columns: Some(ColumnsBody {
            key: vec!["o_orderkey".to_owned()],
            value: None,
            pack: Some(data.packed("second").split(',').map(str::to_owned).collect()),
            version: None,
            expires_at: None,
            delete: None,
        }),
        guards: GuardsBody::default(),
        on_duplicate: Default::default(),
    }
}

/// Writes a row for each order, without versions; what they hold then.
async fn stream(server: &Server, orders: &[i64]) -> BTreeMap<i64, Held> {
    let client = server.client();
    let mut written = BTreeMap::new();
    for chunk in orders.chunks(500) {
        let value = |order: i64| format!("{{\"streamed\":{order}}}");
        let rows = chunk.iter().map(|&order| BatchWriteRow {
            key: JsonKey::Parts(vec![order.into()]),
            value: Some(value(order)),
            value_base64: None,
            value_json: None,
            delete: false,
            version: None,
            expires_at: None,
        });
        let body = BatchWriteBody { rows: rows.collect() };
        let answer = client.batch_write(&table_ref("orders"), &body).await.unwrap();
        for (&order, row) in chunk.iter().zip(answer.rows) {
            written.insert(order, Some((value(order), row.version.unwrap().0)));
        }
    }
    written
}

/// The clients at work, and what they know when they have stopped.
async fn at_work(clients: Vec<Own>, during: impl AsyncFnOnce(&Signals)) -> Vec<Own> {
    let signals = Arc::new(Signals::default());
    let tasks: Vec<_> = clients.into_iter().map(|client| tokio::spawn(client.run(signals.clone()))).collect();
    during(&signals).await;
    signals.stop();
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await.unwrap());
    }
    clients
}

/// The table as it must be in an era, with everything that clients have written.
fn whole(load: &Contents, era: Era, streamed: &BTreeMap<i64, Held>, clients: &[Own]) -> Contents {
    let mut table = load.clone();
    if era == Era::First {
        streamed.iter().for_each(|(order, held)| put_over(&mut table, *order, held));
    }
    for client in clients {
        for (order, wanted) in client.kept.iter().chain(&client.late) {
            put_over(&mut table, *order, if era == Era::First { &wanted.first } else { &wanted.second });
        }
    }
    table
}

#[test]
fn a_load_that_replaces_orders_under_traffic_is_seen_whole_or_not_at_all_and_can_be_taken_back() {
    let Some(data) = Data::get() else { return };
    let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let server = Server::start(folder.path());
    let client = server.client();
    let orders = table_ref("orders");

    let first_version = now_micros() - 3_600_000_000;
    let (file, version, pack) =
        (data.file("orders").display().to_string(), first_version.to_string(), data.packed("orders"));
    server.ask(&["table", "create", "orders"]);
    let words = [
        "load",
        "orders",
        &file,
        "--mode",
        "replace",
        "--version",
        &version,
        "--key",
        "o_orderkey",
        "--pack",
        &pack,
    ];
    server.ask(&words);
    let first = contents(&data, "orders", first_version);

    // What is streamed before the second load begins is older than it, and vanishes with the first table.
    let unnumbered = contents(&data, "second", 0);
    let sample = sample(&first, &unnumbered);
    let streamed_orders: Vec<i64> = sample.iter().copied().skip(3).step_by(10).collect();
    let streamed = runtime.block_on(stream(&server, &streamed_orders));
    // Versions that the log gives can run a little ahead of the clock; the load's must be above them.
    std::thread::sleep(Duration::from_millis(20));
    let begun = runtime.block_on(client.begin_load(&orders, &second_load(&data), None)).unwrap();
    let version = begun.version.unwrap().0;
    for (order, row) in &streamed {
        assert!(row.as_ref().unwrap().1 < version, "{order}: {row:?} is not below the load's {version}");
    }
    let mut second = unnumbered;
    second.values_mut().for_each(|row| row.version = version);

    let (mut fixed, mut kept, mut late) =
        (Known::new(), vec![Known::new(); CLIENTS], vec![Vec::new(); CLIENTS]);
    for (nth, &order) in sample.iter().enumerate() {
        let wanted = Expected { first: held(&first, order), second: held(&second, order) };
        match nth % 10 {
            0 => drop(kept[nth / 10 % CLIENTS].insert(order, wanted)),
            1 | 2 => late[nth / 10 % CLIENTS].push((order, wanted)),
            3 => drop(fixed.insert(order, Expected { first: streamed[&order].clone(), ..wanted })),
            _ => drop(fixed.insert(order, wanted)),
        }
    }
    let fixed = Arc::new(fixed);
    let clients: Vec<Own> = kept
        .into_iter()
        .zip(late)
        .enumerate()
        .map(|(number, (kept, mut late_to_come))| Own {
            number,
            client: server.client(),
            table: orders.clone(),
            fixed: fixed.clone(),
            kept,
            // One that is never written, so that there is always one to read.
            late: late_to_come.pop().into_iter().collect(),
            late_to_come,
            late_version: version - 1_000_000,
            seen: Vec::new(),
            written: 0,
        })
        .collect();

    let id = &begun.load_id;
    let upload = UploadBody::File(data.file("second"));
    runtime.block_on(client.put_load_file(&orders, id, "second.parquet", upload)).unwrap();
    let mut committed_at = 0;
    let clients = told("orders: replaced under traffic", || {
        runtime.block_on(at_work(clients, async |signals: &Signals| {
            signals.turns(TURNS).await;
            committed_at = commit(&client, "orders", id).await.edition.unwrap().0;
            signals.turns(TURNS).await;
        }))
    });
    let wanted = whole(&second, Era::Second, &streamed, &clients);
    let count = wanted.len() as u64;
    let scanned = told("orders: the second table, whole", || {
        let scanned = runtime.block_on(reading::scan_all(&server, "orders", wanted.values().cloned()));
        runtime.block_on(reading::get_all(&server, "orders", wanted.into_values(), reading::Form::Binary));
        scanned
    });
    assert_eq!(scanned, count);

    let mut reverted_at = 0;
    let clients = told("orders: taken back under traffic", || {
        runtime.block_on(at_work(clients, async |signals: &Signals| {
            signals.turns(TURNS).await;
            let load = client.load_action(&orders, id, LoadAction::Revert, &CommitLoadBody::default()).await;
            reverted_at = load.unwrap().edition.unwrap().0;
            signals.turns(TURNS).await;
        }))
    });
    let wanted = whole(&first, Era::First, &streamed, &clients);
    told("orders: the first table again, whole", || {
        runtime.block_on(reading::scan_all(&server, "orders", wanted.values().cloned()));
        runtime.block_on(reading::get_all(&server, "orders", wanted.values().cloned(), reading::Form::Json));
    });

    told("orders: the editions that were seen", || {
        for client in &clients {
            let mut eras: Vec<Era> = Vec::new();
            for &(edition, era) in &client.seen {
                let by_edition =
                    if (committed_at..reverted_at).contains(&edition) { Era::Second } else { Era::First };
                assert_eq!(
                    era, by_edition,
                    "edition {edition}, committed {committed_at}, reverted {reverted_at}"
                );
                if eras.last() != Some(&era) {
                    eras.push(era);
                }
            }
            // One after the other, and no way back: a session never sees an older edition than it has seen.
            assert_eq!(eras, [Era::First, Era::Second, Era::First], "client {}", client.number);
        }
    });
    let seen: Vec<usize> = clients.iter().map(|client| client.seen.len()).collect();
    println!("           orders: {seen:?} answers, each wholly of one table");
    server.stop();
    let server = Server::start(folder.path());
    told("orders: after a start", || {
        runtime.block_on(reading::scan_all(&server, "orders", wanted.into_values()))
    });
    server.stop();
}

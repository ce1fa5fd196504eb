//! Killed with SIGKILL in the middle of everything: what was acknowledged is there, whole and in order.

use crate::harness::{Server, authority};
use nacre_client::{
    Client, ClientConfig, ClientFiles, GetAnswer, KeyText, ReadOptions, TableRef, WriteOptions,
};
use nacre_types::{Consistency, NamespaceName, TableName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ROUNDS: u32 = 6;
const WRITERS: u32 = 4;
/// Keys of one writer; each is written again and again, so that order shows too.
const KEYS: u32 = 20;

/// Of each key the number that was sent last, and the one that was acknowledged last.
#[derive(Debug, Default, Clone, Copy)]
struct Sent {
    last: u64,
    acknowledged: u64,
}

type Ledger = Arc<Mutex<BTreeMap<String, Sent>>>;

fn client(api: &str) -> Client {
    let config = ClientConfig {
        server: api.to_owned(),
        tls: ClientFiles { ca: authority(), ..ClientFiles::default() },
        token: None,
        deadline: Duration::from_secs(10),
    };
    Client::new(config).unwrap()
}

fn table() -> TableRef {
    TableRef::new(NamespaceName::new("default").unwrap(), TableName::new("t").unwrap())
}

/// Writes rising numbers until the server is gone. Each key is one writer's, and a key's next number is sent when the
/// one before was answered, or its server is dead: so the numbers of a key are in the log in rising order.
async fn write(api: String, writer: u32, ledger: Ledger) {
    let client = client(&api);
    for turn in 0.. {
        let key = format!("w{writer}-k{}", turn % KEYS);
        let number = {
            let mut ledger = ledger.lock().unwrap();
            let sent = ledger.entry(key.clone()).or_default();
            sent.last += 1;
            sent.last
        };
        let value = number.to_string();
        let written =
            client.put(&table(), KeyText::Text(key.as_bytes()), value.into(), &WriteOptions::default()).await;
        match written {
            Ok(_) => ledger.lock().unwrap().get_mut(&key).unwrap().acknowledged = number,
            Err(_) => return,
        }
    }
}

async fn compare(api: &str, ledger: &Ledger) {
    let client = client(api);
    let options = ReadOptions { consistency: Some(Consistency::Strong), ..ReadOptions::default() };
    let sent = ledger.lock().unwrap().clone();
    for (key, sent) in sent {
        let found = match client.get(&table(), KeyText::Text(key.as_bytes()), &options).await.unwrap() {
            GetAnswer::Found(row) => String::from_utf8(row.value.to_vec()).unwrap().parse::<u64>().unwrap(),
            GetAnswer::Absent(_) => 0,
        };
        // At least what was acknowledged; perhaps what was under way; never anything else.
        assert!(found >= sent.acknowledged && found <= sent.last, "{key}: {found} is there, {sent:?}");
        // What the kill left unknown is known now: it did not come later.
        ledger.lock().unwrap().get_mut(&key).unwrap().acknowledged = found;
    }
}

#[test]
fn what_was_acknowledged_survives_being_killed_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ledger = Ledger::default();
    let mut server = Server::start(folder.path(), &["--log-level", "warn"]);
    server.ask(&["table", "create", "t"]).well();
    for round in 0..ROUNDS {
        let writers: Vec<_> =
            (0..WRITERS).map(|n| runtime.spawn(write(server.api.clone(), n, ledger.clone()))).collect();
        // Another place in the server's life each time: early, and after some flushes may have begun.
        let life = Duration::from_millis(150 + 370 * u64::from(round));
        runtime.block_on(async { tokio::time::sleep(life).await });
        server.kill();
        for writer in writers {
            runtime.block_on(writer).unwrap();
        }
        server = Server::start(folder.path(), &["--log-level", "warn"]);
        runtime.block_on(compare(&server.api, &ledger));
    }
    let acknowledged: u64 = ledger.lock().unwrap().values().map(|sent| sent.acknowledged).sum();
    assert!(acknowledged > u64::from(ROUNDS * WRITERS), "hardly anything was written: {acknowledged}");
    assert_eq!(server.stop(), 0);
}

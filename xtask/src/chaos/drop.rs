//! A table that is dropped and made again while a dispatcher sleeps: what it acknowledges afterwards is in the new one.
//!
//! The sleeper knows the old table by name. A write that is sent to it after the new table was said to be made, and that it
//! acknowledges, must be there; and nothing of the old table is. The name may well stay taken until the sleeper is awake.

use super::clients::{SHARDS, TABLES};
use super::faults::Measured;
use super::http::{Answer, Http, Lost};
use super::random::Random;
use super::stage::Stage;
use crate::Outcome;
use serde_json::json;
use std::thread;
use std::time::{Duration, Instant};

const NAME: &str = "shortlived";
const LIMIT: Duration = Duration::from_secs(60);

fn key(number: u64, mark: char) -> String {
    format!("{:02}-{mark}", number % SHARDS)
}

fn put(port: u16, key: &str, value: &str) -> Result<Answer, Lost> {
    let mut http = Http::new(port, Duration::from_secs(60));
    http.call("PUT", &format!("{TABLES}/{NAME}/rows/{key}"), &[], value.as_bytes())
}

fn create(port: u16) -> Result<Answer, Lost> {
    let split: Vec<String> = (1..SHARDS).map(|shard| format!("{shard:02}")).collect();
    Http::new(port, Duration::from_secs(20)).json(
        "PUT",
        &format!("{TABLES}/{NAME}"),
        &json!({ "split_at": split }),
    )
}

/// Makes the table, as often as it takes; 200 and 201 alike.
fn made(port: u16, limit: Duration) -> Outcome<bool> {
    let begun = Instant::now();
    loop {
        match create(port) {
            Ok(answer) if answer.is_ok() => return Ok(true),
            Ok(answer) if !matches!(answer.status, 409 | 429 | 500..) => {
                return Err(format!("a table cannot be made: {}", answer.text()));
            }
            _ if begun.elapsed() > limit => return Ok(false),
            _ => thread::sleep(Duration::from_millis(200)),
        }
    }
}

pub(super) fn run(stage: &Stage, _: &mut Random) -> Outcome<Measured> {
    let [sleeper, other] = ["dispatcher-1", "dispatcher-2"].map(|name| stage.port(name));
    if !made(other, LIMIT)? {
        return Err("the table cannot be made to begin with".into());
    }
    for number in 0..SHARDS {
        // Both have used the name.
        for port in [sleeper, other] {
            let _ = put(port, &key(number, 'a'), "old");
        }
    }
    stage.signal("dispatcher-1", "-STOP");
    let told = thread::scope(|scope| {
        let early: Vec<_> =
            (0..4).map(|number| scope.spawn(move || put(sleeper, &key(number * 3, 'b'), "early"))).collect();
        let dropped =
            Http::new(other, Duration::from_secs(20)).call("DELETE", &format!("{TABLES}/{NAME}"), &[], &[]);
        let while_asleep = made(other, Duration::from_secs(4));
        let late = |count: u64| -> Vec<_> {
            (0..count)
                .map(|number| {
                    let key = key(number * 5, 'c');
                    scope.spawn(move || (put(sleeper, &key, "late").is_ok_and(|answer| answer.is_ok()), key))
                })
                .collect()
        };
        let mut sent = Vec::new();
        if while_asleep == Ok(true) {
            sent.extend(late(4));
            thread::sleep(Duration::from_millis(200));
        }
        stage.signal("dispatcher-1", "-CONT");
        let awake = Instant::now();
        let is_made = while_asleep.clone()? || made(other, LIMIT)?;
        let waited = awake.elapsed().as_secs_f64();
        if !is_made {
            return Err(format!("the name is not free after {LIMIT:?}"));
        }
        sent.extend(late(6));
        for one in early {
            let _ = one.join();
        }
        let acknowledged: Vec<String> = sent
            .into_iter()
            .filter_map(|one| one.join().ok())
            .filter_map(|(is_done, key)| is_done.then_some(key))
            .collect();
        dropped.map_err(|lost| format!("the drop was not answered: {}", lost.why()))?;
        Ok((while_asleep == Ok(true), waited, acknowledged))
    });
    stage.signal("dispatcher-1", "-CONT");
    let (while_asleep, waited, acknowledged) = told?;
    let mut http = Http::new(other, Duration::from_secs(20));
    for number in 0..SHARDS {
        let path = format!("{TABLES}/{NAME}/rows/{}?consistency=strong", key(number, 'a'));
        if http.get(&path).is_ok_and(|answer| answer.status == 200) {
            return Err(format!("a row of the table that was dropped is in the new one: {path}"));
        }
    }
    for key in &acknowledged {
        let path = format!("{TABLES}/{NAME}/rows/{key}?consistency=strong");
        let found = http.get(&path).map_err(Lost::why)?;
        if found.status != 200 {
            return Err(format!(
                "{key} was sent to the sleeper after the new table was made, acknowledged, and is not there: {}",
                found.text()
            ));
        }
    }
    Ok(vec![
        ("drop while paused, made anew while asleep (1 = yes)", f64::from(u8::from(while_asleep))),
        ("drop while paused, awake to made anew", waited),
        ("drop while paused, acknowledged by the sleeper afterwards", acknowledged.len() as f64),
    ])
}

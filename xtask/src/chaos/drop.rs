//! A table that is dropped, and its name used again, while a dispatcher sleeps.
//!
//! The sleeper knows the old table by name, and may use what it knows for minutes. So in a fleet a dropped name stays taken
//! for ten; a write that is sent to the sleeper after the new table was said to be made, and that it acknowledges, must be
//! there, and nothing of the old table may be.

use super::clients::{SHARDS, TABLES};
use super::faults::Measured;
use super::http::{Answer, Http, Lost};
use super::random::Random;
use super::stage::Stage;
use crate::Outcome;
use serde_json::json;
use std::thread;
use std::time::{Duration, Instant};

/// A dropped name stays taken for so long, and a little.
const TEN_MINUTES: Duration = Duration::from_secs(600 + 60);

fn key(number: u64, mark: char) -> String {
    format!("{:02}-{mark}", number % SHARDS)
}

fn put(port: u16, name: &str, key: &str, value: &str) -> Result<Answer, Lost> {
    let mut http = Http::new(port, Duration::from_secs(60));
    http.call("PUT", &format!("{TABLES}/{name}/rows/{key}"), &[], value.as_bytes())
}

/// Makes the table as often as it takes; `false` where its name stays taken for that long.
fn made(port: u16, name: &str, limit: Duration) -> Outcome<bool> {
    let begun = Instant::now();
    let split: Vec<String> = (1..SHARDS).map(|shard| format!("{shard:02}")).collect();
    loop {
        let mut http = Http::new(port, Duration::from_secs(20));
        match http.json("PUT", &format!("{TABLES}/{name}"), &json!({ "split_at": split })) {
            Ok(answer) if answer.is_ok() => return Ok(true),
            Ok(answer) if !matches!(answer.status, 409 | 429 | 500..) => {
                return Err(format!("a table cannot be made: {}", answer.text()));
            }
            _ if begun.elapsed() > limit => return Ok(false),
            _ => thread::sleep(Duration::from_millis(300)),
        }
    }
}

/// Asleep for seconds: the name stays taken.
pub(super) fn seconds(stage: &Stage, random: &mut Random) -> Outcome<Measured> {
    let (sleeper, other) = (stage.port("dispatcher-1"), stage.port("dispatcher-2"));
    let name = format!("dropped-{}", random.next());
    begin(&name, sleeper, other)?;
    stage.signal("dispatcher-1", "-STOP");
    let asked = dropped(other, &name).and_then(|()| made(other, &name, Duration::from_secs(3)));
    stage.signal("dispatcher-1", "-CONT");
    if asked? {
        return Err(format!("{name} was made anew while a dispatcher that knew the old one was asleep"));
    }
    if made(other, &name, Duration::from_secs(1))? {
        // Free as soon as the sleeper has heard of it: then it must use the new one.
        return check(&name, other, &[put(sleeper, &name, &key(0, 'c'), "late")]);
    }
    Ok(Vec::new())
}

/// Asleep until the name is free again.
pub(super) fn minutes(stage: &Stage, random: &mut Random) -> Outcome<Measured> {
    let (sleeper, other) = (stage.port("dispatcher-1"), stage.port("dispatcher-2"));
    let name = format!("dropped-{}", random.next());
    begin(&name, sleeper, other)?;
    stage.signal("dispatcher-1", "-STOP");
    let begun = Instant::now();
    let is_made = dropped(other, &name).and_then(|()| made(other, &name, TEN_MINUTES));
    let taken = begun.elapsed().as_secs_f64();
    if is_made != Ok(true) {
        stage.signal("dispatcher-1", "-CONT");
        return Err(format!("{name} is not free after {TEN_MINUTES:?}: {is_made:?}"));
    }
    // They reach the sleeper's socket now, and the sleeper when it is awake.
    let late = thread::scope(|scope| {
        let sent: Vec<_> = (0..8)
            .map(|number| {
                let (name, key) = (name.as_str(), key(number * 5, 'c'));
                scope.spawn(move || put(sleeper, name, &key, "late"))
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        stage.signal("dispatcher-1", "-CONT");
        sent.into_iter().filter_map(|one| one.join().ok()).collect::<Vec<_>>()
    });
    let mut measured = check(&name, other, &late)?;
    measured.push(("drop while asleep, seconds until the name was free", taken));
    Ok(measured)
}

/// Makes it, and has both dispatchers use its name.
fn begin(name: &str, sleeper: u16, other: u16) -> Outcome {
    if !made(other, name, Duration::from_secs(60))? {
        return Err(format!("{name} cannot be made to begin with"));
    }
    for number in 0..SHARDS {
        for port in [sleeper, other] {
            let _ = put(port, name, &key(number, 'a'), "old");
        }
    }
    Ok(())
}

fn dropped(port: u16, name: &str) -> Outcome {
    let answer =
        Http::new(port, Duration::from_secs(20)).call("DELETE", &format!("{TABLES}/{name}"), &[], &[]);
    let answer = answer.map_err(|lost| format!("the drop of {name}: {}", lost.why()))?;
    if answer.is_ok() { Ok(()) } else { Err(format!("the drop of {name}: {}", answer.text())) }
}

/// The new table has what was written to it and acknowledged (`late`, to keys in their order), and nothing of the old one.
fn check(name: &str, port: u16, late: &[Result<Answer, Lost>]) -> Outcome<Measured> {
    let mut http = Http::new(port, Duration::from_secs(20));
    let mut is_there = |key: &str| {
        let path = format!("{TABLES}/{name}/rows/{key}?consistency=strong");
        let begun = Instant::now();
        loop {
            match http.get(&path) {
                Ok(answer) if answer.status == 200 => return Ok(true),
                Ok(answer) if answer.header("nacre-absent").is_some() => return Ok(false),
                _ if begun.elapsed() > Duration::from_secs(30) => {
                    return Err(format!("{path} is not answered"));
                }
                _ => thread::sleep(Duration::from_millis(200)),
            }
        }
    };
    for number in 0..SHARDS {
        if is_there(&key(number, 'a'))? {
            return Err(format!("{name}: a row of the old table is in the new one"));
        }
    }
    let mut acknowledged = 0.0;
    for (number, answer) in (0..).zip(late) {
        if answer.as_ref().is_ok_and(Answer::is_ok) {
            acknowledged += 1.0;
            let key = key(number * 5, 'c');
            if !is_there(&key)? {
                return Err(format!(
                    "{name}: {key} was sent to the sleeper after the new table was made, acknowledged, and is not there"
                ));
            }
        }
    }
    Ok(vec![("drop while asleep, acknowledged by the sleeper afterwards", acknowledged)])
}

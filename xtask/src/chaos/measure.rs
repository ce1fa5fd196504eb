//! Faults that are timed: how long until it is as before, beside a bound or a plain producer.

use super::clients::{SHARDS, batch_get, row};
use super::faults::Measured;
use super::http::{Http, Lost};
use super::proxy::Faults;
use super::random::Random;
use super::record::word;
use super::stage::{RAW_TOPIC, Stage};
use crate::Outcome;
use crate::dev::PARTITIONS;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub(super) const TAKE_OVER: &str = "writer take-over";
pub(super) const CATALOG_BACK: &str = "catalog back to flush";
pub(super) const BEYOND_PLAIN: &str = "broker loss, beyond a plain producer";
/// What must not be exceeded, in seconds.
pub(super) const BOUNDS: &[(&str, f64)] = &[(TAKE_OVER, 15.0), (CATALOG_BACK, 10.0), (BEYOND_PLAIN, 2.0)];

const FLUSH_AGE: &str = "nacre_engine_flush_age_seconds";
/// Nobody waits longer for a flush.
const LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// Kills a writer for good, until every partition that it flushed has been flushed by another.
pub(super) fn take_over(stage: &Stage, victim: &str) -> Outcome<Measured> {
    let orphans: BTreeSet<String> = stage.metric(victim, FLUSH_AGE).into_keys().collect();
    if orphans.is_empty() {
        return Err(format!("{victim} flushes nothing"));
    }
    stage.kill(victim, true);
    let killed = Instant::now();
    let others: Vec<String> = stage.names("writer").into_iter().filter(|name| name != victim).collect();
    let seconds = flushed_since(stage, &others, &orphans, killed)?;
    stage.bring_back(victim);
    Ok(vec![(TAKE_OVER, seconds)])
}

/// Ends what is wrong with the catalog, and waits until every partition has been flushed.
pub(super) fn flushes_again(stage: &Stage, name: &'static str) -> Outcome<Measured> {
    stage.dynamodb.set(Faults::default());
    let healed = Instant::now();
    let all = (0..PARTITIONS).map(|partition| format!("{{partition=\"{partition}\"}}")).collect();
    Ok(vec![(name, flushed_since(stage, &stage.names("writer"), &all, healed)?)])
}

/// How long it took until each of these partitions was flushed by one of `writers`, by a flush that began after `since`.
fn flushed_since(
    stage: &Stage,
    writers: &[String],
    partitions: &BTreeSet<String>,
    since: Instant,
) -> Outcome<f64> {
    let mut left = partitions.clone();
    while !left.is_empty() {
        if since.elapsed() > LIMIT {
            return Err(format!("not flushed after {LIMIT:?}: {left:?}"));
        }
        for writer in writers {
            for (partition, age) in stage.metric(writer, FLUSH_AGE) {
                if age < since.elapsed().as_secs_f64() {
                    left.remove(&partition);
                }
            }
        }
        thread::sleep(LOOK);
    }
    Ok(since.elapsed().as_secs_f64())
}

/// When writes to each shard were acknowledged, in seconds.
type Acknowledged = Vec<Vec<f64>>;

/// Kills a broker that stays away for ten seconds. A write to every shard every 50 ms, and beside it a plain producer to
/// every partition of a topic on the same brokers: the longest gap of either.
pub(super) fn lose_broker(stage: &Stage, random: &mut Random) -> Outcome<Measured> {
    let stop = AtomicBool::new(false);
    let acknowledged: Mutex<Acknowledged> = Mutex::new(vec![Vec::new(); SHARDS as usize]);
    let plain: Mutex<Acknowledged> = Mutex::new(vec![Vec::new(); PARTITIONS as usize]);
    let program = stage.stack.program.with_file_name("examples").join("raw_producer");
    let mut command = Command::new(&program);
    command.args([&stage.stack.kafka, RAW_TOPIC, &PARTITIONS.to_string()]);
    let mut raw = command
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let stdout = raw.stdout.take();
    let begun = Instant::now();
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            for line in stdout.into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok) {
                let Some(partition) = line.split(' ').next().and_then(|text| text.parse::<usize>().ok())
                else {
                    continue;
                };
                let mut plain = plain.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(times) = plain.get_mut(partition) {
                    times.push(begun.elapsed().as_secs_f64());
                }
            }
        });
        for shard in 0..SHARDS as usize {
            let (stop, acknowledged) = (&stop, &acknowledged);
            scope.spawn(move || {
                let mut http = Http::new(stage.api, Duration::from_secs(20));
                let path = row("pulse", &format!("{shard:02}-p"));
                while !stop.load(Ordering::Relaxed) {
                    let answer = http.call("PUT", &path, &[("nacre-deadline-ms", "6000")], b"x");
                    if answer.is_ok_and(|answer| answer.is_ok()) {
                        let mut all = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(times) = all.get_mut(shard) {
                            times.push(begun.elapsed().as_secs_f64());
                        }
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            });
        }
        let done = (|| {
            thread::sleep(Duration::from_secs(3));
            let number = random.below(3) as usize;
            stage.cluster.kill(number);
            thread::sleep(Duration::from_secs(10));
            let ended = begun.elapsed().as_secs_f64();
            stage.cluster.spawn(number)?;
            Ok::<f64, String>(ended)
        })();
        stop.store(true, Ordering::Relaxed);
        let _ = raw.kill();
        let _ = raw.wait();
        done
    });
    let ended = done?;
    let own = longest_gap(&acknowledged.into_inner().unwrap_or_else(PoisonError::into_inner), 2.0, ended);
    let plain = longest_gap(&plain.into_inner().unwrap_or_else(PoisonError::into_inner), 2.0, ended);
    Ok(vec![
        ("broker loss, longest gap", own),
        ("broker loss, a plain producer's", plain),
        (BEYOND_PLAIN, own - plain),
    ])
}

/// The longest time in which one of these got no acknowledgement, from `from` to `to`.
fn longest_gap(all: &Acknowledged, from: f64, to: f64) -> f64 {
    let mut longest: f64 = 0.0;
    for times in all {
        let mut last = from;
        for time in times.iter().copied().filter(|time| (from..to).contains(time)).chain([to]) {
            longest = longest.max(time - last);
            last = time;
        }
    }
    longest
}

/// So long at least the catalog is away.
const MINUTES: Duration = Duration::from_secs(130);
/// And no longer than this, where a machine is so slow that the tail does not fill.
const MINUTES_MOST: Duration = Duration::from_secs(390);
const BULK: usize = 100_000;

/// An outage of the catalog in which one shard is written to until the bound of the tail; then it is refused, and a
/// metric said so before. What was acknowledged is there afterwards.
pub(super) fn outage(stage: &Stage, _: &mut Random) -> Outcome<Measured> {
    let most = stage.metric("dispatcher-1", "nacre_engine_tail_bytes_max").into_values().next();
    let most = most.ok_or("a dispatcher does not say how long a tail may be")?;
    // One that was started since the last write to the table knows nothing of it, and could ask nobody.
    for name in stage.names("dispatcher") {
        let mut http = Http::new(stage.port(&name), Duration::from_secs(20));
        let first = http.call("PUT", &row("pulse", "15-bulk-before"), &[], b"x").map_err(Lost::why)?;
        if !first.is_ok() {
            return Err(format!("{name} does not write before the outage: {}", word(&first)));
        }
    }
    stage.dynamodb.set(Faults { refuse: true, ..Faults::default() });
    let begun = Instant::now();
    let mut http = Http::new(stage.api, Duration::from_secs(20));
    let value = "x".repeat(BULK);
    let (mut written, mut refused_after, mut refused_by) = (Vec::new(), None, String::new());
    let (mut highest, mut announced): (f64, bool) = (0.0, false);
    let mut others: BTreeMap<String, u64> = BTreeMap::new();
    for number in 0u64.. {
        let enough = if refused_after.is_some() { MINUTES } else { MINUTES_MOST };
        if begun.elapsed() > enough {
            break;
        }
        if refused_after.is_some() {
            thread::sleep(Duration::from_millis(500));
        }
        let key = format!("15-bulk{number:06}");
        let path = row("pulse", &key);
        let answer = http.call("PUT", &path, &[("nacre-deadline-ms", "6000")], value.as_bytes());
        match answer {
            // Also after the first refusal: another dispatcher knows of fewer, and refuses a little later.
            Ok(answer) if answer.is_ok() => written.push(key),
            Ok(answer) if answer.code() == "tail-full" => {
                refused_after.get_or_insert(begun.elapsed().as_secs_f64());
                refused_by = word(&answer);
            }
            Ok(answer) => *others.entry(word(&answer)).or_insert(0) += 1,
            Err(lost) => *others.entry(lost.why()).or_insert(0) += 1,
        }
        if number % 10 == 0 && refused_after.is_none() {
            let tails = stage.names("dispatcher").into_iter().chain(stage.names("cache"));
            let longest = tails.flat_map(|name| stage.metric(&name, "nacre_engine_tail_bytes").into_values());
            highest = longest.fold(highest, f64::max);
            announced |= highest > most / 2.0;
            // Slow enough that a metric can be read before it is too late.
            thread::sleep(Duration::from_millis(100));
        }
    }
    let Some(refused_after) = refused_after else {
        let taken = written.len() * BULK / 1_000_000;
        return Err(format!(
            "{taken} MB were taken, and none refused for the tail's length; otherwise: {others:?}"
        ));
    };
    if !announced {
        return Err(format!(
            "writes were refused ({refused_by}) and no metric had said so: {highest} of {most}"
        ));
    }
    let mut measured = flushes_again(stage, CATALOG_BACK)?;
    let back = Instant::now();
    while !http.call("PUT", &row("pulse", "15-bulk-back"), &[], b"x").is_ok_and(|answer| answer.is_ok()) {
        if back.elapsed() > LIMIT {
            return Err("writes are still refused".into());
        }
        thread::sleep(LOOK);
    }
    measured.push(("catalog outage, writes refused after", refused_after));
    measured.push(("catalog outage, MB acknowledged in one partition", (written.len() * BULK) as f64 / 1e6));
    measured.push(("catalog outage, tail's metric before the first refusal, of its bound", highest / most));
    measured.push(("catalog outage, flushed to writes again", back.elapsed().as_secs_f64()));
    for keys in written.chunks(20) {
        let found = batch_get(&mut http, "pulse", "strong", keys, &[])?;
        if let Some(lost) = found.iter().zip(keys).find(|(found, _)| found.as_ref() != Some(&value)) {
            return Err(format!("{} was acknowledged in the outage and is not there", lost.1));
        }
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_between_two_acknowledgements_or_the_ends() {
        let all = vec![vec![1.0, 2.0, 5.0, 6.0], vec![1.5, 3.0, 4.0, 6.5]];
        assert!((longest_gap(&all, 1.0, 7.0) - 3.0).abs() < 1e-9);
        assert!((longest_gap(&all, 4.5, 7.0) - 2.0).abs() < 1e-9);
        assert!((longest_gap(&[vec![]].to_vec(), 0.0, 4.0) - 4.0).abs() < 1e-9, "none at all");
    }
}

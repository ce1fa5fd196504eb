//! What is done to the stage, how long it lasts, and what is measured of it.

use super::measure;
use super::proxy::Faults;
use super::random::Random;
use super::stage::Stage;
use crate::Outcome;
use crate::dev::TOPIC;
use std::thread;
use std::time::{Duration, Instant};

/// A fault that a round can have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// How often it is chosen; 0 = only when it is asked for by name, or once in a long run.
    pub(super) weight: u64,
    /// Replicas that can be reached by reads bear it: eventual reads of known data go on.
    pub(super) is_borne: bool,
    inject: fn(&Stage, &mut Random) -> Outcome<Measured>,
}

/// What was measured of a fault, by name, in seconds.
pub(super) type Measured = Vec<(&'static str, f64)>;

pub(super) const ALL: &[Fault] = &[
    fault("kill-dispatcher", "kill -9 of a dispatcher", 8, true, |stage, random| {
        kill(stage, random, "dispatcher")
    }),
    fault("kill-cache", "kill -9 of a cache node", 8, true, |stage, random| kill(stage, random, "cache")),
    fault(
        "kill-writer",
        "kill -9 of a writer, away until another has flushed its partitions",
        6,
        true,
        kill_writer,
    ),
    fault("kill-loader", "kill -9 of a loader", 4, true, |stage, random| kill(stage, random, "loader")),
    fault("kill-maintainer", "kill -9 of the maintainer", 3, true, |stage, random| {
        kill(stage, random, "maintainer")
    }),
    fault(
        "kill-everything",
        "kill -9 of all writers, loaders and dispatchers at once",
        3,
        false,
        kill_everything,
    ),
    fault("restart-broker", "a broker is stopped in order and started again", 2, true, restart_broker),
    fault("kill-broker", "kill -9 of a broker, started again at once", 3, true, kill_broker),
    fault(
        "lose-broker",
        "kill -9 of a broker that stays away, beside a plain producer",
        3,
        true,
        measure::lose_broker,
    ),
    fault("catalog-outage", "DynamoDB is away for seconds", 6, true, catalog_outage),
    fault(
        "catalog-trouble",
        "DynamoDB throttles, conflicts, fails, loses answers and is slow",
        6,
        true,
        catalog_trouble,
    ),
    fault("s3-throttle", "S3 answers 30 % with 503 SlowDown", 6, true, s3_throttle),
    fault(
        "s3-errors",
        "S3 answers 500 before and after it did it, loses answers and is slow",
        6,
        true,
        s3_errors,
    ),
    fault("s3-outage", "S3 is away for seconds", 5, true, s3_outage),
    fault("move-leaders", "leaders are moved all the time, for seconds", 5, true, |stage, _| {
        move_leaders(stage, Duration::from_secs(5))
    }),
    fault("pause-dispatcher", "SIGSTOP of a dispatcher", 5, false, |stage, random| {
        pause(stage, random, "dispatcher")
    }),
    fault("pause-cache", "SIGSTOP of a cache node", 5, false, |stage, random| pause(stage, random, "cache")),
    fault("pause-writer", "SIGSTOP of a writer", 4, true, |stage, random| pause(stage, random, "writer")),
    fault(
        "drop-while-paused",
        "a table is dropped and its name wanted again while a dispatcher is stopped",
        4,
        false,
        super::drop::seconds,
    ),
    fault("clocks-differ", "brokers' clocks differ by up to 50 s", 5, true, clocks_differ),
    fault("clock-far-off", "a broker's clock is two minutes off", 3, true, clock_far_off),
    fault("several", "three of the small ones at once", 6, false, several),
    fault("minutes-of-moving", "leaders are moved for three minutes on end", 0, true, |stage, _| {
        move_leaders(stage, Duration::from_secs(180))
    }),
    fault(
        "minutes-of-outage",
        "DynamoDB is away until writes are refused, for minutes",
        0,
        true,
        measure::outage,
    ),
    fault(
        LONGEST,
        "a table is dropped and made again, ten minutes later, while a dispatcher is stopped; only by name",
        0,
        false,
        super::drop::minutes,
    ),
];

/// Takes eleven minutes.
const LONGEST: &str = "drop-for-minutes";

const fn fault(
    name: &'static str,
    what: &'static str,
    weight: u64,
    is_borne: bool,
    inject: fn(&Stage, &mut Random) -> Outcome<Measured>,
) -> Fault {
    Fault { name, what, weight, is_borne, inject }
}

impl Fault {
    /// Does it, for as long as it lasts, and mends it.
    pub(super) fn inject(&self, stage: &Stage, random: &mut Random) -> Outcome<Measured> {
        let measured = (self.inject)(stage, random);
        heal(stage)?;
        measured
    }

    /// Whether it comes only when it is asked for by name.
    pub(super) fn is_long(&self) -> bool {
        self.name == LONGEST
    }

    /// Whether it shakes brokers, which wants all of them well before.
    pub(super) fn wants_brokers(&self) -> bool {
        ["broker", "leaders", "clock", "several", "moving"].iter().any(|word| self.name.contains(word))
    }
}

/// Nothing is wrong any more.
fn heal(stage: &Stage) -> Outcome {
    stage.s3.set(Faults::default());
    stage.dynamodb.set(Faults::default());
    for number in 0..3 {
        stage.cluster.set_clock(number, 0)?;
        stage.cluster.spawn(number)?;
    }
    for role in ["dispatcher", "cache", "writer", "loader", "maintainer"] {
        for name in stage.names(role) {
            stage.bring_back(&name);
            stage.signal(&name, "-CONT");
        }
    }
    Ok(())
}

fn some(stage: &Stage, random: &mut Random, role: &str) -> String {
    random.pick(&stage.names(role)).cloned().unwrap_or_default()
}

fn last(millis: u64) -> Outcome<Measured> {
    thread::sleep(Duration::from_millis(millis));
    Ok(Vec::new())
}

fn kill(stage: &Stage, random: &mut Random, role: &str) -> Outcome<Measured> {
    stage.kill(&some(stage, random, role), false);
    last(2_000)
}

fn kill_writer(stage: &Stage, random: &mut Random) -> Outcome<Measured> {
    let victim = some(stage, random, "writer");
    measure::take_over(stage, &victim)
}

fn kill_everything(stage: &Stage, _: &mut Random) -> Outcome<Measured> {
    for name in ["writer", "loader", "dispatcher"].iter().flat_map(|role| stage.names(role)) {
        stage.kill(&name, false);
    }
    last(4_000)
}

fn restart_broker(stage: &Stage, random: &mut Random) -> Outcome<Measured> {
    let number = random.below(3) as usize;
    stage.cluster.stop(number);
    stage.cluster.spawn(number)?;
    last(4_000)
}

fn kill_broker(stage: &Stage, random: &mut Random) -> Outcome<Measured> {
    let number = random.below(3) as usize;
    stage.cluster.kill(number);
    stage.cluster.spawn(number)?;
    last(6_000)
}

fn catalog_outage(stage: &Stage, random: &mut Random) -> Outcome<Measured> {
    let refuse = random.below(2) == 0;
    stage.dynamodb.set(Faults { refuse, hang: !refuse, ..Faults::default() });
    thread::sleep(Duration::from_millis(3_000 + random.below(6_000)));
    measure::flushes_again(stage, measure::CATALOG_BACK)
}

fn catalog_trouble(stage: &Stage, _: &mut Random) -> Outcome<Measured> {
    stage.dynamodb.set(Faults {
        throttled: 25,
        failed_before: 5,
        failed_after: 5,
        lost: 5,
        conflicts: 20,
        delay_ms: 15,
        ..Faults::default()
    });
    last(5_000)
}

fn s3_throttle(stage: &Stage, _: &mut Random) -> Outcome<Measured> {
    stage.s3.set(Faults { throttled: 30, ..Faults::default() });
    last(5_000)
}

fn s3_errors(stage: &Stage, _: &mut Random) -> Outcome<Measured> {
    stage.s3.set(Faults { failed_before: 10, failed_after: 10, lost: 5, delay_ms: 30, ..Faults::default() });
    last(5_000)
}

fn s3_outage(stage: &Stage, random: &mut Random) -> Outcome<Measured> {
    let refuse = random.below(2) == 0;
    stage.s3.set(Faults { refuse, hang: !refuse, ..Faults::default() });
    last(2_000 + random.below(3_000))
}

fn move_leaders(stage: &Stage, time: Duration) -> Outcome<Measured> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        stage.cluster.move_leaders(TOPIC)?;
        thread::sleep(Duration::from_millis(300));
    }
    Ok(Vec::new())
}

fn pause(stage: &Stage, random: &mut Random, role: &str) -> Outcome<Measured> {
    let name = some(stage, random, role);
    stage.signal(&name, "-STOP");
    // Now and then longer than the others wait before they think it dead.
    thread::sleep(Duration::from_millis(if random.below(3) == 0 {
        14_000
    } else {
        1_500 + random.below(3_000)
    }));
    stage.signal(&name, "-CONT");
    last(1_000)
}

fn clocks_differ(stage: &Stage, random: &mut Random) -> Outcome<Measured> {
    for number in 0..3 {
        stage.cluster.set_clock(number, random.below(101) as i64 - 50)?;
    }
    thread::sleep(Duration::from_millis(1_500));
    // The leaders' places change hands, and the log's time goes back and forth with them.
    for _ in 0..3 {
        stage.cluster.move_leaders(TOPIC)?;
        thread::sleep(Duration::from_millis(800));
    }
    last(500)
}

/// What a dispatcher says of an append time that it does not believe.
const ALARM: &str = "a broker's clock and this machine's are too far apart";

fn clock_far_off(stage: &Stage, random: &mut Random) -> Outcome<Measured> {
    let seconds = if random.below(2) == 0 { 120 } else { -120 };
    // One that appends to something: after other faults a broker may lead nothing.
    let leaders = stage.cluster.leaders(TOPIC)?;
    let number = *random.pick(&leaders).ok_or("no partition has a leader")?;
    let before = stage.said(ALARM);
    stage.cluster.set_clock(number, seconds)?;
    thread::sleep(Duration::from_secs(3));
    match stage.said(ALARM).saturating_sub(before) {
        0 => Err("a clock that is two minutes off was not alarmed".into()),
        alarms => Ok(vec![("a clock two minutes off, alarms", alarms as f64)]),
    }
}

fn several(stage: &Stage, random: &mut Random) -> Outcome<Measured> {
    stage.s3.set(Faults { throttled: 20, lost: 3, delay_ms: 20, ..Faults::default() });
    stage.dynamodb.set(Faults { throttled: 10, lost: 3, delay_ms: 10, ..Faults::default() });
    let names: Vec<String> =
        ["writer", "loader", "cache"].iter().map(|role| some(stage, random, role)).collect();
    for name in names {
        stage.kill(&name, false);
        thread::sleep(Duration::from_millis(700));
    }
    if random.below(2) == 0 {
        kill_broker(stage, random)?;
    } else {
        stage.cluster.move_leaders(TOPIC)?;
    }
    last(1_500)
}

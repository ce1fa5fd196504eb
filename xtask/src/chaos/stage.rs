//! Everything that runs: brokers, DynamoDB and S3 behind proxies, the fleet behind HAProxy; and what can be done to it.

use super::brokers::Cluster;
use super::proxy::{Kind, Proxy};
use crate::dev::haproxy::{self, Balancer};
use crate::dev::processes::{Spec, is_ready};
use crate::dev::{PARTITIONS, Stack, TOPIC, make_bucket};
use crate::services::{DYNAMODB_LOCAL, Running, Services, VERSITYGW, free_port};
use crate::{Outcome, cache};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The topic of the plain producer that runs beside.
pub(super) const RAW_TOPIC: &str = "raw";
/// Small, so that what takes a day elsewhere takes a round: segments and carried rows every two seconds, a log that is
/// trimmed, and a bound of the tail that an outage of minutes reaches.
const FLAGS: &str = "--flush-every 2s --flush-size 8MiB --flush-table-size 16KiB --tail-max 24MiB --keep-log 120s \
                     --cache-memory 64MiB --shutdown-grace 5s";
const READY: Duration = Duration::from_secs(180);

struct Process {
    spec: Spec,
    child: Child,
    /// It is not started again.
    is_down: bool,
    started: Instant,
}

/// Ended when dropped.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) s3: Proxy,
    pub(super) dynamodb: Proxy,
    /// Where the balancer listens.
    pub(super) api: u16,
    pub(super) stack: Stack,
    processes: Mutex<BTreeMap<String, Process>>,
    is_over: Arc<AtomicBool>,
    _balancer: Balancer,
    _services: Running,
}

impl Stage {
    pub(super) fn set(program: &Path, folder: &Path, seed: u64) -> Outcome<Arc<Self>> {
        eprintln!("starting three brokers, DynamoDB Local and an S3 server on {}", folder.display());
        let services = Services::of_a_stack()?.without_kafka().start_in(folder);
        let cluster = Cluster::start(&cache::kafka()?, folder)?;
        let port = |name: &str| -> Outcome<u16> {
            let url = services.url(name).ok_or_else(|| format!("{name} does not run"))?;
            let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
            port.ok_or_else(|| format!("{name} has no port"))
        };
        make_bucket(folder)?;
        let s3 = Proxy::start(Kind::S3, port(VERSITYGW)?, seed ^ 1)?;
        let dynamodb = Proxy::start(Kind::DynamoDb, port(DYNAMODB_LOCAL)?, seed ^ 2)?;
        let stack = Stack {
            program: program.to_owned(),
            folder: folder.to_owned(),
            s3: s3.url(),
            dynamodb: dynamodb.url(),
            kafka: cluster.address(),
            replicas: 3,
            flags: FLAGS.split_whitespace().map(str::to_owned).collect(),
        };
        let begun = Instant::now();
        for name in [TOPIC, RAW_TOPIC] {
            // Brokers that listen do not know each other yet.
            while let Err(error) = stack.make_topic(name, PARTITIONS) {
                if begun.elapsed() > READY {
                    return Err(error);
                }
                thread::sleep(Duration::from_millis(500));
            }
        }
        let mut dispatchers = Vec::new();
        let mut processes = BTreeMap::new();
        let zones = |number: usize| ["a", "b", "c"].get(number).copied().unwrap_or("a");
        for (role, count) in
            [("dispatcher", 2), ("cache", 3), ("writer", 2), ("loader", 2), ("maintainer", 1)]
        {
            for number in 0..count {
                let (name, port) = (format!("{role}-{}", number + 1), free_port()?);
                let more: &[&str] = if role == "cache" { &["--zone", zones(number)] } else { &[] };
                let spec = stack.spec(&name, role, port, more);
                if role == "dispatcher" {
                    dispatchers.push((name.clone(), port));
                }
                let child = spec.start()?;
                processes.insert(name, Process { spec, child, is_down: false, started: Instant::now() });
            }
        }
        let balancer = haproxy::start(folder, &dispatchers)?;
        let stage = Arc::new(Self {
            cluster,
            s3,
            dynamodb,
            api: balancer.port,
            stack,
            processes: Mutex::new(processes),
            is_over: Arc::default(),
            _balancer: balancer,
            _services: services,
        });
        stage.supervise();
        stage.wait_until_ready(READY)?;
        Ok(stage)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts again what has died, as a supervisor would, until the stage goes.
    fn supervise(self: &Arc<Self>) {
        let (weak, is_over) = (Arc::downgrade(self), self.is_over.clone());
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(100));
                let Some(stage) = weak.upgrade() else { return };
                for (name, process) in stage.held().iter_mut() {
                    let is_dead = matches!(process.child.try_wait(), Ok(Some(_)));
                    if !is_dead || process.is_down || process.started.elapsed() < Duration::from_secs(1) {
                        continue;
                    }
                    match process.spec.start() {
                        Ok(child) => (process.child, process.started) = (child, Instant::now()),
                        Err(error) => eprintln!("{name}: {error}"),
                    }
                }
            }
        });
    }

    pub(super) fn names(&self, role: &str) -> Vec<String> {
        self.held().keys().filter(|name| name.starts_with(role)).cloned().collect()
    }

    pub(super) fn port(&self, name: &str) -> u16 {
        self.held().get(name).map_or(0, |process| process.spec.port)
    }

    /// kill -9. `stays`: until it is brought back.
    pub(super) fn kill(&self, name: &str, stays: bool) {
        if let Some(process) = self.held().get_mut(name) {
            process.is_down = stays;
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }

    pub(super) fn bring_back(&self, name: &str) {
        if let Some(process) = self.held().get_mut(name) {
            process.is_down = false;
        }
    }

    /// A signal by its name for `kill`.
    pub(super) fn signal(&self, name: &str, signal: &str) {
        let id = self.held().get(name).map(|process| process.child.id());
        if let Some(id) = id {
            let _ = Command::new("kill").args([signal, &id.to_string()]).status();
        }
    }

    pub(super) fn are_ready(&self) -> bool {
        let ports: Vec<u16> = self.held().values().map(|process| process.spec.port).collect();
        ports.into_iter().all(is_ready)
    }

    pub(super) fn wait_until_ready(&self, limit: Duration) -> Outcome {
        let begun = Instant::now();
        while !self.are_ready() {
            if begun.elapsed() > limit {
                let ports: Vec<(String, u16)> =
                    self.held().iter().map(|(name, process)| (name.clone(), process.spec.port)).collect();
                let late: Vec<String> =
                    ports.into_iter().filter(|(_, port)| !is_ready(*port)).map(|(name, _)| name).collect();
                return Err(format!("not ready after {limit:?}: {}", late.join(", ")));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Waits until every process is known and each partition is held twice: until then one more death may be one too many.
    pub(super) fn wait_until_whole(&self, limit: Duration) -> Outcome {
        self.wait_until_ready(limit)?;
        let (begun, count) = (Instant::now(), self.held().len());
        loop {
            let mut late = None;
            for name in self.names("dispatcher") {
                let told = super::http::Http::new(self.port(&name), Duration::from_secs(5)).get("/v1/nodes");
                let told = told.map(|answer| answer.json()).unwrap_or_default();
                let nodes = told["nodes"].as_array().map_or(0, Vec::len);
                if nodes != count || told["partitions_at_risk"] != 0 {
                    late = Some(format!(
                        "{name} knows {nodes} of {count}, at risk: {}",
                        told["partitions_at_risk"]
                    ));
                }
            }
            match late {
                None => return Ok(()),
                Some(late) if begun.elapsed() > limit => {
                    return Err(format!("not whole after {limit:?}: {late}"));
                }
                Some(_) => thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// How often dispatchers have said this in their logs.
    pub(super) fn said(&self, words: &str) -> usize {
        let logs: Vec<_> = self.held().values().map(|process| process.spec.log.clone()).collect();
        let is_dispatchers = |log: &&std::path::PathBuf| log.to_string_lossy().contains("dispatcher");
        let texts = logs.iter().filter(is_dispatchers).map(|log| std::fs::read(log).unwrap_or_default());
        texts.map(|text| String::from_utf8_lossy(&text).matches(words).count()).sum()
    }

    /// A metric of a process, by its labels; nothing where it does not answer.
    pub(super) fn metric(&self, process: &str, name: &str) -> BTreeMap<String, f64> {
        let mut http = super::http::Http::new(self.port(process), Duration::from_secs(2));
        let Ok(answer) = http.get("/metrics") else { return BTreeMap::new() };
        let text = answer.text();
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines
            .filter_map(|rest| {
                let (labels, value) = rest.rsplit_once(' ')?;
                let is_it = labels.is_empty() || labels.starts_with('{');
                Some((labels.to_owned(), value.parse().ok()?)).filter(|_| is_it)
            })
            .collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for process in self.held().values_mut() {
            process.is_down = true;
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

//! One folder with a store, whose processes are killed again and again.

use crate::clients::Shared;
use crate::process::{Home, Process, Trap};
use nacre_api::CreateTableBody;
use nacre_types::KeySchema;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Where kills are wanted. `any` is at a random moment, wherever that is.
pub(crate) const PHASES: [&str; 5] = ["start", "flush", "compaction", "rewrite", "commit"];
pub(crate) const ANY: &str = "any";
/// How long a phase is waited for.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long what must happen may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// The kills to do, and those that were done: by phase, and by point.
#[derive(Default)]
pub(crate) struct Kills {
    pub(crate) wanted: Mutex<Vec<&'static str>>,
    pub(crate) done: Mutex<BTreeMap<&'static str, u32>>,
    pub(crate) points: Mutex<BTreeMap<String, u32>>,
}

impl Kills {
    fn count(&self, phase: &'static str, point: &str) {
        *self.done.lock().entry(phase).or_default() += 1;
        *self.points.lock().entry(point.to_owned()).or_default() += 1;
    }

    /// How many processes were killed inside a phase.
    pub(crate) fn inside(&self) -> u32 {
        let done = self.done.lock();
        PHASES.iter().filter_map(|phase| done.get(phase)).sum()
    }

    pub(crate) fn table(&self) -> String {
        let inside = self.inside();
        let done = self.done.lock();
        let mut text = format!("killed inside a phase  {inside:>5}\n");
        for (phase, count) in done.iter().filter(|(phase, _)| **phase != ANY) {
            text += &format!("  {phase:<20} {count:>5}  {:>3} %\n", count * 100 / inside.max(1));
        }
        text += &format!("killed at other moments{:>5}\n", done.get(ANY).unwrap_or(&0));
        text += "killed at the point\n";
        for (point, count) in &*self.points.lock() {
            text += &format!("  {point:<20} {count:>5}\n");
        }
        text
    }
}

pub(crate) struct Lane {
    pub(crate) home: Home,
    pub(crate) rows: Shared,
    /// A table with hardly any writes: what flushes carry.
    pub(crate) quiet: Shared,
    pub(crate) trap: Trap,
    pub(crate) kills: Arc<Kills>,
}

impl Lane {
    pub(crate) fn new(
        folder: &Path,
        program: &Path,
        seed: u64,
        max_versions: u32,
        kills: Arc<Kills>,
    ) -> Self {
        Self {
            home: Home::new(folder, program),
            rows: Shared::new("t", max_versions, seed),
            quiet: Shared::new("quiet", 1, seed ^ 0x71),
            trap: Trap::default(),
            kills,
        }
    }

    pub(crate) async fn make_tables(&self) {
        let process = self.home.start(&self.trap).await;
        for shared in [&self.rows, &self.quiet] {
            let max_versions = shared.ledger.lock().settings.max_versions;
            let body = CreateTableBody {
                key: Some(KeySchema::Bytes),
                max_versions: Some(max_versions),
                ..CreateTableBody::default()
            };
            process.client().create_table(&shared.table, &body).await.unwrap();
        }
        process.stop().await;
    }

    /// Kills until no more are wanted.
    pub(crate) async fn run(&self) {
        self.make_tables().await;
        loop {
            let Some(phase) = self.kills.wanted.lock().pop() else { break };
            if phase == "start" {
                self.kill_a_start().await;
            } else {
                self.kill_at_work(phase).await;
            }
            self.check_complaints();
        }
        self.end().await;
    }

    /// One or two processes start; one is killed on its way.
    async fn kill_a_start(&self) {
        let reached = self.trap.arm("start", self.rows.dice(6));
        let mut starting = vec![self.home.spawn(&self.trap)];
        if self.rows.dice(3) == 0 {
            starting.push(self.home.spawn(&self.trap));
        }
        let Ok(Ok((number, point))) = tokio::time::timeout(PATIENCE, reached).await else {
            self.trap.disarm();
            self.kills.wanted.lock().insert(0, "start");
            return;
        };
        let (victims, mut others): (Vec<_>, Vec<_>) =
            starting.into_iter().partition(|process| process.number == number);
        for victim in victims {
            victim.kill().await;
        }
        self.kills.count("start", &point);
        // Another that starts at the same time is not to mind.
        for other in &mut others {
            other.ready().await;
            self.verify(other).await;
        }
        for other in others {
            self.kills.count(ANY, "after a start");
            other.kill().await;
        }
    }

    /// One or two processes are put to work; one is killed.
    async fn kill_at_work(&self, phase: &'static str) {
        let mut processes = vec![self.home.spawn(&self.trap)];
        if self.rows.dice(4) == 0 {
            processes.push(self.home.spawn(&self.trap));
        }
        for process in &mut processes {
            process.ready().await;
        }
        self.verify(&processes[0]).await;
        let clients = self.send_clients(&processes, phase == "rewrite");
        let (victim, point) = if phase == ANY {
            tokio::time::sleep(Duration::from_millis(200 + self.rows.dice(4_000))).await;
            (processes[0].number, "at random".to_owned())
        } else {
            let reached = self.trap.arm(phase, self.rows.dice(7));
            match tokio::time::timeout(PATIENCE, reached).await {
                Ok(Ok(reached)) => reached,
                _ => {
                    self.trap.disarm();
                    (processes[0].number, String::new())
                }
            }
        };
        // Everybody else goes on for a moment while one task stands still.
        tokio::time::sleep(Duration::from_millis(self.rows.dice(40))).await;
        let (victims, survivors): (Vec<Process>, Vec<Process>) =
            processes.into_iter().partition(|process| process.number == victim);
        for victim in victims {
            victim.kill().await;
        }
        if point.is_empty() {
            self.kills.count(ANY, &format!("in want of {phase}"));
            self.kills.wanted.lock().insert(0, phase);
        } else {
            self.kills.count(phase, &point);
        }
        if !survivors.is_empty() {
            // What the dead one did is the survivors' now.
            tokio::time::sleep(Duration::from_millis(self.rows.dice(2_500))).await;
        }
        self.gather(clients).await;
        for survivor in survivors {
            self.verify(&survivor).await;
            if self.rows.dice(2) == 0 {
                self.kills.count(ANY, "the survivor");
                survivor.kill().await;
            } else {
                survivor.stop().await;
            }
        }
    }

    /// Clients of every kind, spread over the processes; each process takes loads.
    pub(crate) fn send_clients(
        &self,
        processes: &[Process],
        rewrites: bool,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        self.rows.stop.store(false, Ordering::Relaxed);
        self.quiet.stop.store(false, Ordering::Relaxed);
        let rows = || self.rows.clone();
        let api = |n: usize| processes[n % processes.len()].api.clone();
        let is_alone = processes.len() == 1;
        let mut clients = vec![
            tokio::spawn(rows().write_hot(api(0))),
            tokio::spawn(rows().write_hot(api(1))),
            tokio::spawn(rows().write_cold(api(0))),
            tokio::spawn(rows().write_own(api(0), "0".to_owned())),
            tokio::spawn(rows().write_own(api(1), "1".to_owned())),
            tokio::spawn(rows().read(api(0), is_alone)),
            tokio::spawn(rows().read(api(1), is_alone)),
            tokio::spawn(rows().load(api(0), rewrites, 0)),
            tokio::spawn(rows().load(api(1), rewrites, 1)),
            tokio::spawn(self.quiet.clone().write_own(api(1), "q".to_owned())),
        ];
        if !is_alone {
            clients.push(tokio::spawn(rows().write_cold(api(1))));
            clients.push(tokio::spawn(rows().cross(api(0), api(1), "0".to_owned())));
            clients.push(tokio::spawn(rows().cross(api(1), api(0), "1".to_owned())));
        }
        clients
    }

    /// Ends the clients.
    pub(crate) async fn gather(&self, clients: Vec<tokio::task::JoinHandle<()>>) {
        self.rows.stop.store(true, Ordering::Relaxed);
        self.quiet.stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.unwrap();
        }
    }

    pub(crate) async fn verify(&self, process: &Process) {
        let client = process.client();
        self.rows.verify(&client).await;
        self.quiet.verify(&client).await;
    }

    pub(crate) fn check_complaints(&self) {
        for shared in [&self.rows, &self.quiet] {
            let complaints = shared.complaints.lock();
            assert!(complaints.is_empty(), "{}:\n{}", self.home.folder.display(), complaints.join("\n\n"));
        }
    }

    /// Lets the loads that are under way end, and looks at everything once more.
    pub(crate) async fn end(&self) {
        let process = self.home.start(&self.trap).await;
        self.verify(&process).await;
        self.rows.stop.store(false, Ordering::Relaxed);
        let ended = tokio::time::timeout(LIMIT, self.rows.finish_loads(&process.client())).await;
        assert!(ended.is_ok(), "a load does not end: {}", process.log_end());
        self.verify(&process).await;
        process.stop().await;
        self.check_complaints();
    }
}

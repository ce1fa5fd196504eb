//! Processes of the program over one folder, stopped at points and killed.

use nacre_client::{Client, ClientConfig, ClientFiles};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// How long a start may take, with other tests beside it.
const START: Duration = Duration::from_secs(60);

/// A folder with a store in it.
pub(crate) struct Home {
    pub(crate) folder: PathBuf,
    program: PathBuf,
    /// How its processes are started.
    words: Vec<String>,
    count: AtomicU32,
}

/// So that within a second rows are flushed, runs are sorted and merged, and the log is trimmed.
const BUSY: &str = "--flush-every 1s --flush-size 1MiB --flush-table-size 64KiB --keep-log 1s --load-memory 48KiB \
                    --cache-memory 16MiB --log-level info";

/// Who is to be stopped where: shared by the processes of which any will do.
#[derive(Clone, Default)]
pub(crate) struct Trap {
    armed: Arc<Mutex<Option<Armed>>>,
    /// How often each process has come to each point.
    reached: Arc<Mutex<BTreeMap<(u32, String), u64>>>,
}

struct Armed {
    phase: &'static str,
    /// Whether this point of the phase is the one that holds.
    holds: Box<dyn FnMut() -> bool + Send>,
    reached: oneshot::Sender<(u32, String)>,
}

impl Trap {
    /// The next point of `phase`, behind `skip` others, holds whoever reaches it, for ever.
    pub(crate) fn arm(&self, phase: &'static str, mut skip: u64) -> oneshot::Receiver<(u32, String)> {
        self.arm_when(phase, move || {
            let holds = skip == 0;
            skip = skip.saturating_sub(1);
            holds
        })
    }

    /// The first point of `phase` at which `holds` says so holds whoever reaches it, for ever.
    pub(crate) fn arm_when(
        &self,
        phase: &'static str,
        holds: impl FnMut() -> bool + Send + 'static,
    ) -> oneshot::Receiver<(u32, String)> {
        let (reached, answer) = oneshot::channel();
        *self.armed.lock() = Some(Armed { phase, holds: Box::new(holds), reached });
        answer
    }

    pub(crate) fn disarm(&self) {
        *self.armed.lock() = None;
    }

    /// How often the process `number` has come to `point`.
    pub(crate) fn count(&self, number: u32, point: &str) -> u64 {
        self.reached.lock().get(&(number, point.to_owned())).copied().unwrap_or(0)
    }

    /// Whether the process `number` is held at `point`.
    fn holds(&self, number: u32, point: &str) -> bool {
        *self.reached.lock().entry((number, point.to_owned())).or_default() += 1;
        let mut armed = self.armed.lock();
        let is_wanted = armed
            .as_mut()
            .is_some_and(|armed| point.split('/').next() == Some(armed.phase) && (armed.holds)());
        if !is_wanted {
            return false;
        }
        armed.take().is_some_and(|armed| armed.reached.send((number, point.to_owned())).is_ok())
    }
}

/// Answers the points that a process reaches.
async fn answer_points(listener: UnixListener, number: u32, trap: Trap) {
    let mut held: Vec<UnixStream> = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        let mut stream = BufReader::new(stream);
        let mut point = String::new();
        if stream.read_line(&mut point).await.is_ok() && trap.holds(number, point.trim()) {
            held.push(stream.into_inner());
        }
    }
}

/// A process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) number: u32,
    pub(crate) api: String,
    points: tokio::task::JoinHandle<()>,
    /// What it says on stderr.
    pub(crate) log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.points.abort();
    }
}

impl Home {
    pub(crate) fn new(folder: &Path, program: &Path) -> Self {
        Self::with(folder, program, BUSY)
    }

    /// With other settings.
    pub(crate) fn with(folder: &Path, program: &Path, words: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        Self {
            folder: folder.to_owned(),
            program: program.to_owned(),
            words: words.split_whitespace().map(str::to_owned).collect(),
            count: AtomicU32::new(0),
        }
    }

    /// Starts a process. It has no address yet.
    pub(crate) fn spawn(&self, trap: &Trap) -> Process {
        self.spawn_with(trap, &[])
    }

    /// Starts a process with more settings and waits until it answers.
    pub(crate) async fn start_with(&self, trap: &Trap, more: &[&str]) -> Process {
        let mut process = self.spawn_with(trap, more);
        process.ready().await;
        process
    }

    fn spawn_with(&self, trap: &Trap, more: &[&str]) -> Process {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let socket = self.folder.join(format!("points-{number}"));
        let listener = UnixListener::bind(&socket).unwrap();
        let log = self.folder.join(format!("log-{number}"));
        let words = ["serve", "--listen", "127.0.0.1:0", "--output", "json", "--data", "data"];
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NACRE_") {
                command.env_remove(name);
            }
        }
        command.current_dir(&self.folder).args(words).args(&self.words).args(more);
        command.arg("--phase-socket").arg(&socket).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap());
        let child = command.spawn().unwrap();
        let points = tokio::spawn(answer_points(listener, number, trap.clone()));
        Process { child, number, api: String::new(), points, log }
    }

    /// Starts a process and waits until it answers.
    pub(crate) async fn start(&self, trap: &Trap) -> Process {
        let mut process = self.spawn(trap);
        process.ready().await;
        process
    }
}

impl Process {
    /// Waits until it says its address and answers reads.
    pub(crate) async fn ready(&mut self) {
        let begun = Instant::now();
        let mut lines = BufReader::new(self.child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(START, lines.next_line()).await;
        let Ok(Ok(Some(line))) = line else { panic!("no address: {}", self.log_end()) };
        let first: serde_json::Value = serde_json::from_str(&line).unwrap();
        self.api = first["api"].as_str().unwrap().to_owned();
        let client = self.client();
        while let Err(error) = client.ready().await {
            assert!(begun.elapsed() < START, "not ready: {error:?}\n{}", self.log_end());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn client(&self) -> Client {
        client(&self.api)
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("process {} had ended by itself ({status}): {}", self.number, self.log_end());
        }
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and a good end.
    pub(crate) async fn stop(mut self) {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let ended = tokio::time::timeout(START, self.child.wait()).await;
        let Ok(Ok(status)) = ended else { panic!("it did not stop: {}", self.log_end()) };
        assert!(status.success(), "{status}: {}", self.log_end());
    }

    /// What it said last, and where the rest is.
    pub(crate) fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("{}:\n{}", self.log.display(), lines[lines.len().saturating_sub(15)..].join("\n"))
    }
}

/// A client of the server at `api`.
pub(crate) fn client(api: &str) -> Client {
    Client::new(ClientConfig {
        server: api.to_owned(),
        tls: ClientFiles::default(),
        token: None,
        deadline: Duration::from_secs(20),
    })
    .unwrap()
}

/// A client of plain HTTP.
pub(crate) fn http() -> reqwest::Client {
    nacre_tls::install_provider();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

//! Starting the program, and running commands against it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nacre_client::{Client, ClientConfig, ClientFiles, TableRef};
use nacre_types::{NamespaceName, TableName};

/// A table of the default namespace.
pub(crate) fn table_ref(name: &str) -> TableRef {
    TableRef::new(NamespaceName::new("default").unwrap(), TableName::new(name).unwrap())
}

/// The program, or what stands in for it, whose servers are fleets.
pub(crate) fn program() -> PathBuf {
    let other = std::env::var_os("NACRE_TEST_PROGRAM");
    other.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_nacre")), PathBuf::from)
}

/// Whom clients trust, where what stands in for the program speaks https.
pub(crate) fn authority() -> Option<PathBuf> {
    std::env::var_os("NACRE_TEST_CA").map(PathBuf::from)
}

/// A client that is no client of nacre's.
pub(crate) fn http() -> reqwest::Client {
    let mut client = reqwest::Client::builder();
    if let Some(authority) = authority() {
        let authority = reqwest::Certificate::from_pem(&std::fs::read(authority).unwrap()).unwrap();
        client = client.tls_certs_only([authority]);
    }
    client.build().unwrap()
}

/// The program, with none of the caller's settings.
fn nacre(folder: &Path) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NACRE_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// A server over `folder`/data; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Its URL.
    pub(crate) api: String,
    folder: PathBuf,
}

impl Server {
    /// Starts one and waits until it has said its address. What the server logs goes to `folder`/log.
    pub(crate) fn start(folder: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let words = ["serve", "--data", "data", "--listen", "127.0.0.1:0", "--output", "json"];
        // Often, so that a test of some seconds reads rows from the tail and from flushed segments.
        let mut command = nacre(folder);
        command.args(words).args(["--flush-every", "1s"]).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut server = Self { child, api: String::new(), folder: folder.to_owned() };
        match serde_json::from_str::<serde_json::Value>(&line) {
            Ok(first) => server.api = first["api"].as_str().unwrap().to_owned(),
            Err(error) => panic!("the server said {line:?} ({error}); its log: {}", server.log()),
        }
        server
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Where the files of a table lie: in the folder of its store, or of the S3 server where stores have prefixes.
    pub(crate) fn table_folder(&self, id: &str) -> PathBuf {
        let of = |store: PathBuf| store.join("tables").join(id);
        match std::env::var_os("NACRE_TEST_S3_FOLDER") {
            None => of(self.folder.join("data")),
            Some(bucket) => {
                let stores = std::fs::read_dir(bucket).unwrap().map(|store| of(store.unwrap().path()));
                stores.into_iter().find(|folder| folder.is_dir()).unwrap()
            }
        }
    }

    /// A client of its own connections and session.
    pub(crate) fn client(&self) -> Client {
        let config = ClientConfig {
            server: self.api.clone(),
            tls: ClientFiles { ca: authority(), ..ClientFiles::default() },
            token: None,
            deadline: Duration::from_secs(30),
        };
        Client::new(config).unwrap()
    }

    /// Runs a command against it; the result as JSON.
    pub(crate) fn ask(&self, words: &[&str]) -> serde_json::Value {
        let mut command = nacre(&self.folder);
        let output = command.args(words).args(["--server", &self.api, "--output", "json"]).output().unwrap();
        assert!(
            output.status.success(),
            "nacre {words:?}: {}\nthe server's log: {}",
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// SIGTERM; it ends well.
    pub(crate) fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}; its log: {}", self.log());
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

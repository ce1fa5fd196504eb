//! HAProxy in front of the dispatchers: asks them whether they are ready, and sends a request twice only if it reads.

use crate::Outcome;
use crate::services::free_port;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(10);
/// The configuration that the operations guide shows, with holes for what differs.
const CONFIGURATION: &str = include_str!("../../../deploy/haproxy.cfg");

/// A balancer that runs; stopped when dropped.
pub(crate) struct Balancer {
    child: Child,
    pub(crate) port: u16,
    /// Where it speaks plain HTTP, whatever it does at the other.
    pub(crate) plain: u16,
}

/// What differs from the operations guide's.
#[derive(Default)]
pub(crate) struct Front<'a> {
    /// https to clients and to dispatchers: a certificate, its key, and whom to trust.
    pub(crate) tls: Option<&'a (PathBuf, PathBuf, PathBuf)>,
    /// A file that gets a line for each request: `METHOD PATH STATUS NODES`, by the receipt of the answer.
    pub(crate) receipts: Option<&'a Path>,
    /// It is killed when the thread that started it ends.
    pub(crate) dies_with_us: bool,
}

impl Balancer {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it in front of dispatchers at these ports.
pub(crate) fn start(folder: &Path, dispatchers: &[(String, u16)]) -> Outcome<Balancer> {
    start_as(folder, dispatchers, &Front::default())
}

/// Likewise, with what differs.
pub(crate) fn start_as(folder: &Path, dispatchers: &[(String, u16)], front: &Front) -> Outcome<Balancer> {
    let (port, plain) = (free_port()?, free_port()?);
    let failed = |file: &Path, error: std::io::Error| format!("{}: {error}", file.display());
    let (mut to_clients, mut to_servers) = (String::new(), String::new());
    if let Some((certificate, key, trusted)) = front.tls {
        let both = folder.join("haproxy.pem");
        let text = [certificate, key].map(|file| std::fs::read(file).map_err(|error| failed(file, error)));
        let [certificate, key] = text;
        std::fs::write(&both, [certificate?, key?].concat()).map_err(|error| failed(&both, error))?;
        to_clients = format!(" ssl crt {} alpn h2,http/1.1", both.display());
        to_servers = format!(" ssl verify required ca-file {}", trusted.display());
    }
    let mut global = "    maxconn 4000\n".to_owned();
    let mut binds = format!("    bind 127.0.0.1:{port}{to_clients}\n    bind 127.0.0.1:{plain}\n");
    if front.receipts.is_some() {
        global += "    log stdout format raw local0 info\n";
        binds += "    log global\n    log-format \"%HM %HP %ST %[capture.res.hdr(0)]\"\n    capture response header \
                  nacre-nodes len 1024\n";
    }
    let servers: String = dispatchers
        .iter()
        .map(|(name, port)| {
            format!("    server {name} 127.0.0.1:{port} check inter 500ms fall 2 rise 1{to_servers}\n")
        })
        .collect();
    let text = CONFIGURATION
        .replace("    maxconn 20000\n", &global)
        .replace("    bind :80\n", &binds)
        .replace("    server dispatcher-1 10.0.0.11:8790 check inter 500ms fall 2 rise 1\n", &servers)
        .replace("    server dispatcher-2 10.0.0.12:8790 check inter 500ms fall 2 rise 1\n", "");
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, text).map_err(|error| failed(&file, error))?;
    let mut command = Command::new(if front.dies_with_us { "setpriv" } else { "haproxy" });
    if front.dies_with_us {
        command.args(["--pdeathsig", "KILL", "--", "haproxy"]);
    }
    let (receipts, said) = match front.receipts {
        Some(file) => {
            let create = |file: &Path| std::fs::File::create(file).map_err(|error| failed(file, error));
            (create(file)?.into(), create(&folder.join("haproxy.log"))?.into())
        }
        None => (Stdio::null(), Stdio::inherit()),
    };
    let child = command
        .arg("-db")
        .arg("-f")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(receipts)
        .stderr(said)
        .spawn()
        .map_err(|error| format!("haproxy: {error}; Debian's package haproxy has it"))?;
    let mut balancer = Balancer { child, port, plain };
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Ok(Some(status)) = balancer.child.try_wait() {
            return Err(format!("haproxy ended at its start: {status}"));
        }
        if begun.elapsed() > START {
            return Err("haproxy does not listen".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(balancer)
}

//! Running other programs: in the repository's root, with a time limit, their output shown as it comes.

use crate::Outcome;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// The repository's root folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// cargo itself, as the one that runs this program, in the root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs `command` with its output shown.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Outcome {
    shown(command);
    let child = start(command)?;
    finish(child, limit)
}

/// As [`run`], with all that is said on stderr: for what is installed by the way, while stdout belongs to an answer.
pub(crate) fn run_aside(command: &mut Command, limit: Duration) -> Outcome {
    eprintln!("$ {}", words_of(command));
    let child = start(command.stdout(std::io::stderr()))?;
    finish(child, limit)
}

/// Runs `command`, shows its stdout line by line and gives each line to `line` as well.
pub(crate) fn run_lines(command: &mut Command, limit: Duration, mut line: impl FnMut(&str)) -> Outcome {
    shown(command);
    command.stdout(Stdio::piped());
    let mut child = start(command)?;
    let Some(stdout) = child.stdout.take() else { return Err("no pipe to the child's stdout".into()) };
    // The reader is this thread, the limit another one: a child that hangs without a word is ended all the same.
    let watch = thread::spawn(move || finish(child, limit));
    for text in BufReader::new(stdout).lines().map_while(Result::ok) {
        println!("{text}");
        line(&text);
    }
    watch.join().unwrap_or_else(|_| Err("the watching thread panicked".into()))
}

/// Runs `command` and answers its stdout; its stderr is shown.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let name = format!("{command:?}");
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{name}: stdout is not UTF-8: {error}"))
}

fn shown(command: &Command) {
    println!("$ {}", words_of(command));
    let _ = std::io::stdout().flush();
}

fn words_of(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| Path::new(word).file_name().filter(|_| word.len() > 60).unwrap_or(word).to_string_lossy())
        .collect();
    words.join(" ")
}

fn start(command: &mut Command) -> Outcome<Child> {
    // A group of its own lets a time limit end grandchildren too. At a terminal the children stay in ours, so that
    // an interrupt reaches them.
    if std::env::var_os("CI").is_some() {
        command.process_group(0);
    }
    command.stdin(Stdio::null()).spawn().map_err(|error| format!("{command:?}: {error}"))
}

fn finish(child: Child, limit: Duration) -> Outcome {
    let id = child.id();
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        let mut child = child;
        let _ = sender.send(child.wait());
    });
    match receiver.recv_timeout(limit) {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{status}")),
        Ok(Err(error)) => Err(format!("waiting for it failed: {error}")),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            let whole_group = std::env::var_os("CI").is_some();
            let target = if whole_group { format!("-{id}") } else { id.to_string() };
            let _ = Command::new("kill").args(["-KILL", "--", &target]).status();
            Err(format!("ended: it took longer than {} s", limit.as_secs()))
        }
    }
}

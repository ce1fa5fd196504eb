//! The README's tour as a test: what a newcomer is told to type is typed, in order, and must work.
//!
//! A block of README.md that opens with "```sh tour" belongs to the tour. Its lines run one by one, in one shell, in an
//! empty folder, with the release build on PATH. Each must end well, unless the block says otherwise:
//!
//! - `sh tour exit=3`: the block's last line ends with this code.
//! - A line that ends in `&` goes on in the background; the next line runs when it has printed its first line.
//!
//! A block right after it (only blank lines between) that opens with "```text output" or "```json output" is what the
//! block's lines print on stdout, all together. `...` stands for any text within a line; a line that is `...` alone stands for any
//! lines. `cargo run --release --` is the release build, which a step of its own made. The port 8790 is replaced by a
//! free one, in what is typed and in what is expected, and Python is the cached one.

mod blocks;
mod expected;

use crate::report::Counts;
use crate::{Outcome, process};
use blocks::Block;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How long a line may take, in seconds. The longest starts a Spark.
const LINE_SECONDS: u32 = 180;

pub(crate) fn check(python: &Path, program: &Path, counts: &mut Counts) -> Outcome {
    let text = std::fs::read_to_string(process::root().join("README.md"))
        .map_err(|error| format!("README.md: {error}"))?;
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| error.to_string())?
        .port();
    let blocks = blocks::of(&text.replace("8790", &port.to_string()))?;
    if blocks.is_empty() {
        return Err("README.md has no block that opens with ```sh tour".into());
    }
    let home = tempfile::tempdir().map_err(|error| error.to_string())?;
    let work = home.path().join("tour");
    std::fs::create_dir(&work).map_err(|error| error.to_string())?;
    let script = script(&blocks, home.path());
    let path = home.path().join("tour.sh");
    std::fs::write(&path, script).map_err(|error| error.to_string())?;
    shell(&path, &work, python, program, port)?;
    compare(&blocks, home.path(), counts)
}

fn shell(script: &Path, work: &Path, python: &Path, program: &Path, port: u16) -> Outcome {
    let folders = [program.parent(), python.parent()].into_iter().flatten().map(Path::to_path_buf);
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let path =
        std::env::join_paths(folders.chain(std::env::split_paths(&rest))).map_err(|e| e.to_string())?;
    let mut bash = Command::new("bash");
    bash.arg(script).current_dir(work).env("PATH", path).stdin(Stdio::null());
    bash.env("NACRE_SERVER", format!("http://127.0.0.1:{port}"))
        .env("NACRE_LISTEN", format!("127.0.0.1:{port}"));
    // A group of its own, so that what the tour left running ends with it.
    let mut child = bash.process_group(0).spawn().map_err(|error| format!("bash: {error}"))?;
    let status = child.wait().map_err(|error| error.to_string());
    let _ = Command::new("kill")
        .args(["-KILL", "--", &format!("-{}", child.id())])
        .stderr(Stdio::null())
        .status();
    // Which line failed is told by what each left behind, see `compare`.
    status.map(|_| ())
}

/// One shell script for the whole tour: what one line sets, the next one sees. Line `b.l` leaves `b.l.out`, `b.l.err`
/// and `b.l.status` in `home`.
fn script(blocks: &[Block], home: &Path) -> String {
    let mut script = String::from("set -u -o pipefail\n");
    for (b, block) in blocks.iter().enumerate() {
        for (l, line) in block.lines.iter().enumerate() {
            let base = home.join(format!("{b}.{l}")).display().to_string();
            let wanted = if l + 1 == block.lines.len() { block.exit } else { 0 };
            let _ = writeln!(script, "printf '$ %s\\n' {}", quoted(line));
            if let Some(command) = line.strip_suffix('&') {
                let _ = writeln!(
                    script,
                    "{{ {command} ; }} > '{base}.out' 2> '{base}.err' &\nfor i in $(seq 1200); do\n  [ -s '{base}.out' ] && \
                     break\n  kill -0 $! 2> /dev/null || break\n  sleep 0.05\ndone\n[ -s '{base}.out' ]; status=$?"
                );
            } else {
                // `eval` in this shell: a variable or a `cd` outlives its line.
                let _ =
                    writeln!(script, "( sleep {LINE_SECONDS}; kill -KILL 0 ) > /dev/null 2>&1 &\nwatch=$!");
                let _ = writeln!(script, "eval {} > '{base}.out' 2> '{base}.err'; status=$?", quoted(line));
                let _ = writeln!(script, "kill $watch 2> /dev/null; wait $watch 2> /dev/null");
            }
            let _ = writeln!(
                script,
                "cat '{base}.out'; [ -z \"$(tail -c 1 '{base}.out')\" ] || echo; cat '{base}.err' >&2\necho $status > '{base}.status'"
            );
            let _ = writeln!(script, "[ $status -eq {wanted} ] || exit 1");
        }
    }
    script
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn compare(blocks: &[Block], home: &Path, counts: &mut Counts) -> Outcome {
    for (b, block) in blocks.iter().enumerate() {
        let mut printed = String::new();
        for (l, line) in block.lines.iter().enumerate() {
            let read = |end: &str| -> Option<String> {
                let path: PathBuf = home.join(format!("{b}.{l}.{end}"));
                std::fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            };
            let wanted = if l + 1 == block.lines.len() { block.exit } else { 0 };
            match read("status").and_then(|status| status.trim().parse::<i32>().ok()) {
                Some(status) if status == wanted => counts.passed += 1,
                Some(status) => {
                    return Err(format!(
                        "README.md:{}: `{line}` ended with {status}, not {wanted}",
                        block.at
                    ));
                }
                None => return Err(format!("README.md:{}: `{line}` did not end", block.at)),
            }
            // A value is printed without a line feed of its own.
            if !printed.is_empty() && !printed.ends_with('\n') {
                printed.push('\n');
            }
            printed.push_str(&read("out").unwrap_or_default());
        }
        if let Some(output) = &block.output {
            expected::matches(output, &printed).map_err(|why| format!("README.md:{}: {why}", block.at))?;
            counts.passed += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(markdown: &str) -> Outcome<u64> {
        let home = tempfile::tempdir().unwrap();
        let work = home.path().join("tour");
        std::fs::create_dir(&work).unwrap();
        let blocks = blocks::of(markdown)?;
        let path = home.path().join("tour.sh");
        std::fs::write(&path, script(&blocks, home.path())).unwrap();
        shell(&path, &work, Path::new("/usr/bin/python3"), Path::new("/bin/true"), 1).unwrap();
        let mut counts = Counts::default();
        compare(&blocks, home.path(), &mut counts).map(|()| counts.passed)
    }

    #[test]
    fn lines_share_one_shell_and_their_output_is_compared() {
        let tour = "```sh tour\nx='a b'\necho \"$x\" \\\n  c\n```\n\n```text output\na b c\n```\n";
        assert_eq!(play(tour), Ok(3));
        let wrong = tour.replace("a b c\n```\n", "a c\n```\n");
        assert!(play(&wrong).unwrap_err().contains("README.md:1"), "{wrong}");
    }

    #[test]
    fn a_line_that_fails_is_named_unless_it_should() {
        assert!(play("```sh tour\ntrue\nfalse\ntrue\n```\n").unwrap_err().contains("`false`"));
        assert_eq!(play("```sh tour exit=3\n(exit 3)\n```\n"), Ok(1));
    }

    #[test]
    fn a_background_line_is_waited_for_until_it_speaks() {
        let tour = "```sh tour\n(sleep 0.2; echo up > flag; echo ready; sleep 30) &\ncat flag\n```\n";
        assert_eq!(play(tour), Ok(2));
        assert!(play("```sh tour\nfalse &\n```\n").is_err());
    }
}

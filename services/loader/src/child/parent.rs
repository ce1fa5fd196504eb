//! The parent's side: starts a child, reads what it answers, and says what it died of.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;

use nacre_segment::foreign::ReadAt;
use nacre_types::{Error, KeySchema, Result};
use rustix::process::Signal;

use super::frame::{FrameReader, FrameWriter, Kind};
use super::wire::{Head, PIECE_BYTES, Piped, Place, Request, Work, error_of};
use crate::decode::Adoptable;

/// How a child is started for a file.
#[derive(Clone)]
pub(crate) struct Spawn {
    pub(crate) program: PathBuf,
    pub(crate) file: SpawnFile,
    pub(crate) memory_bytes: u64,
    /// CPU seconds.
    pub(crate) seconds: u64,
}

/// The file that a child decodes.
#[derive(Clone)]
pub(crate) enum SpawnFile {
    /// One that it opens by itself.
    Here(PathBuf),
    /// One that this process reads for it.
    Asked(Arc<dyn ReadAt>),
}

/// What a child answers first.
pub(crate) enum Answer {
    Key(KeySchema),
    Adopt(Box<Adoptable>),
    Rewrite { reason: String, hint: String, cuts: Vec<u64> },
    Open { has_versions: bool },
}

/// A child at work. Dropped, it is killed.
pub(crate) struct Session {
    child: Child,
    to: FrameWriter<ChildStdin>,
    frames: FrameReader<ChildStdout>,
    /// Read for the child where it asks.
    asked: Option<Arc<dyn ReadAt>>,
    body: Vec<u8>,
    memory_bytes: u64,
    seconds: u64,
}

impl Drop for Session {
    fn drop(&mut self) {
        // One that has ended is only waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Session {
    /// Starts a child and gives it its work.
    ///
    /// # Errors
    /// `Unavailable` (`load-child`) where that is not possible.
    pub(crate) fn start(spawn: &Spawn, work: &Work) -> Result<Self> {
        let failed = |what: &str, error: &io::Error| {
            Error::unavailable(format!("{what} the decoding child {}: {error}", spawn.program.display()))
                .with_code("load-child")
        };
        let (file, asked) = match &spawn.file {
            SpawnFile::Here(path) => (Place::Here(path.clone()), None),
            SpawnFile::Asked(file) => (Place::Asked(file.len()), Some(file.clone())),
        };
        let request =
            Request { file, memory_bytes: spawn.memory_bytes, seconds: spawn.seconds, work: work.clone() };
        let json = serde_json::to_vec(&request)
            .map_err(|error| Error::internal(format!("a child's request does not encode: {error}")))?;
        let mut child = Command::new(&spawn.program)
            .arg(super::ARGUMENT)
            // Secrets of this process are none of its business.
            .env_clear()
            // What a terminal sends to this process is not meant for it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed("starting", &error))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else {
            return Err(Error::internal("a child without pipes"));
        };
        let mut session = Self {
            child,
            to: FrameWriter::new(input),
            frames: FrameReader::new(output),
            asked,
            body: Vec::new(),
            memory_bytes: spawn.memory_bytes,
            seconds: spawn.seconds,
        };
        // A child that has died already says why by its status.
        drop(session.to.write(Kind::Request, &json));
        Ok(session)
    }

    /// The first frame, and the index behind it.
    ///
    /// # Errors
    /// What the child says is wrong with the file, or what it died of.
    pub(crate) fn answer(&mut self) -> Result<Answer> {
        let head = match self.frame()? {
            Kind::Head => self.head()?,
            _ => return Err(out_of_turn()),
        };
        Ok(match head {
            Head::Key(schema) => Answer::Key(schema),
            Head::Rewrite { reason, hint, cuts } => Answer::Rewrite { reason, hint, cuts },
            Head::Open { has_versions } => Answer::Open { has_versions },
            Head::Failed { kind, detail } => return Err(error_of(&kind, detail)),
            Head::Adopt { summary, hidden, cuts } => match self.frame()? {
                Kind::Index => Answer::Adopt(Box::new(Adoptable {
                    index: std::mem::take(&mut self.body).into(),
                    summary: summary.into(),
                    hidden,
                    cuts,
                })),
                _ => return Err(out_of_turn()),
            },
        })
    }

    /// The next rows; `None` behind the last.
    ///
    /// # Errors
    /// As [`Session::answer`].
    pub(crate) fn next_batch(&mut self) -> Result<Option<Piped<'_>>> {
        match self.frame()? {
            Kind::Rows => Piped::decode(&self.body).map(Some),
            Kind::End => Ok(None),
            Kind::Head => match self.head()? {
                Head::Failed { kind, detail } => Err(error_of(&kind, detail)),
                _ => Err(out_of_turn()),
            },
            _ => Err(out_of_turn()),
        }
    }

    fn head(&self) -> Result<Head> {
        serde_json::from_slice(&self.body).map_err(|_| out_of_turn())
    }

    /// The next frame that is no question.
    fn frame(&mut self) -> Result<Kind> {
        loop {
            match self.frames.read(&mut self.body) {
                Ok(Kind::Ask) => self.read_for_it()?,
                Ok(kind) => return Ok(kind),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(self.died()),
                Err(error) => {
                    return Err(Error::unavailable(format!("reading from the decoding child: {error}"))
                        .with_code("load-child"));
                }
            }
        }
    }

    /// Reads what the child asks for. A read that fails is the answer; the child is killed with the session.
    fn read_for_it(&mut self) -> Result<()> {
        let number = |at: usize| self.body.get(at..)?.first_chunk().copied().map(u64::from_le_bytes);
        let (Some(file), Some(start), Some(end)) = (&self.asked, number(0), number(8)) else {
            return Err(out_of_turn());
        };
        if start > end || end > file.len() || end - start > PIECE_BYTES {
            return Err(out_of_turn());
        }
        let bytes = file.read_at(start..end)?;
        // A child that is gone says why where its next frame would be.
        drop(self.to.write(Kind::Bytes, &bytes));
        Ok(())
    }

    /// Why there is no more to read.
    fn died(&mut self) -> Error {
        // Its stdout is closed, so that it has ended or is about to.
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(error) => {
                return Error::unavailable(format!("waiting for the decoding child: {error}"))
                    .with_code("load-child");
            }
        };
        let mut said = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            drop(stderr.take(4_096).read_to_string(&mut said));
        }
        self.obituary(status, said.trim())
    }

    fn obituary(&self, status: ExitStatus, said: &str) -> Error {
        let signal = status.signal().and_then(Signal::from_named_raw);
        let memory = self.memory_bytes >> 20;
        let costs = |detail: String| Error::invalid(detail).with_code("load-file-cost");
        if signal == Some(Signal::XCPU) {
            return costs(format!(
                "decoding it took more than {} seconds of CPU time; the file is broken or built to be slow",
                self.seconds
            ));
        }
        // What the allocator says last, whether it aborts or panics.
        if said.contains("memory allocation") || said.contains("capacity overflow") {
            return costs(format!(
                "decoding it needs more than {memory} MiB of memory; write smaller pages, or give the loader more"
            ));
        }
        let end = match signal {
            // From outside: the next attempt may fare better.
            Some(Signal::INT | Signal::TERM | Signal::HUP) => {
                return Error::unavailable("the decoding child was asked to end").with_code("load-child");
            }
            Some(Signal::KILL) => {
                return costs(
                    "the process that decoded it was killed, by an operator or by the kernel for want of memory"
                        .to_owned(),
                );
            }
            _ => match (status.signal(), status.code()) {
                (Some(signal), _) => format!("signal {signal}"),
                (None, code) => format!("exit code {}", code.unwrap_or_default()),
            },
        };
        if status.signal().is_none() {
            // It was not the decoding child at all, or an older one.
            return Error::unavailable(format!("the decoding child ended with {end}: {said}"))
                .with_code("load-child");
        }
        Error::invalid(format!("the process that decoded it crashed ({end}); the file is broken or hostile"))
            .with_code("load-file-crash")
    }
}

fn out_of_turn() -> Error {
    Error::unavailable("the decoding child spoke out of turn; is it another release?").with_code("load-child")
}

//! The child's side.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use nacre_segment::foreign::{
    Caps, ForeignReader, ProveOptions, ReadAt, ReadRequest, Verdict, declare_key, prove_with,
};
use nacre_types::{Error, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::frame::{FrameWriter, Kind};
use super::wire::{Head, Request, Work, encode_batch};

/// Longest request: column and folder names.
const REQUEST_BYTES: u64 = 16 << 20;

/// What the program does when its first argument is [`super::ARGUMENT`]: serves one request from stdin to stdout, and
/// answers its exit code. Call it before anything else starts: no runtime, no logging, no threads.
pub fn main() -> i32 {
    let input = io::stdin();
    // Past the line buffer of `Stdout`.
    let output = match io::stdout().as_fd().try_clone_to_owned() {
        Ok(fd) => File::from(fd),
        Err(_) => return 2,
    };
    // A pipe of 64 KiB would mean a switch between the processes for each; that it cannot be had is no matter.
    let _ = rustix::pipe::fcntl_setpipe_size(&output, 1 << 20);
    serve(input.lock(), output)
}

/// Serves one request. Answers the exit code: 0 where the parent was told how it went, whatever that was.
pub fn serve(input: impl Read, output: impl Write) -> i32 {
    let mut json = Vec::new();
    if input.take(REQUEST_BYTES).read_to_end(&mut json).is_err() {
        return 2;
    }
    let Ok(request) = serde_json::from_slice::<Request>(&json) else { return 2 };
    let mut out = FrameWriter::new(output);
    let told = match cap(&request).and_then(|()| open(&request.path)) {
        Ok(file) => work(&file, &request.work, &mut out),
        Err(error) => head(&mut out, &Head::failed(&error)),
    };
    // A parent that is gone has no need of an answer.
    match told.and_then(|()| out.finish()) {
        Ok(()) => 0,
        Err(_) => 3,
    }
}

/// Caps this process. From here on nothing that a file says can cost more.
fn cap(request: &Request) -> Result<()> {
    let limits = [
        (Resource::As, request.memory_bytes),
        (Resource::Cpu, request.seconds.max(1)),
        // No file is written, not even a core.
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ];
    for (resource, limit) in limits {
        // What the operator capped lower already can only be lowered.
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        // The first bound of CPU time ends the process by a signal of its own; the second would by the one for all.
        let maximum = limit.saturating_add(u64::from(resource == Resource::Cpu)).min(most);
        let limit = Rlimit { current: Some(limit.min(maximum)), maximum: Some(maximum) };
        setrlimit(resource, limit).map_err(|error| {
            Error::unavailable(format!("the decoding child could not be capped: {error}"))
        })?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Arc<dyn ReadAt>> {
    let file = File::open(path).map_err(|error| Error::unavailable(format!("opening it: {error}")))?;
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        return Err(Error::invalid("it is no ordinary file"));
    }
    Ok(Arc::new(file))
}

fn head<W: Write>(out: &mut FrameWriter<W>, head: &Head) -> io::Result<()> {
    out.write(Kind::Head, &serde_json::to_vec(head)?)
}

fn work<W: Write>(file: &Arc<dyn ReadAt>, work: &Work, out: &mut FrameWriter<W>) -> io::Result<()> {
    match work {
        Work::Declare { columns, folders } => {
            match declare_key(&**file, columns, folders, &Caps::default()) {
                Ok(schema) => head(out, &Head::Key(schema)),
                Err(error) => head(out, &Head::failed(&error)),
            }
        }
        Work::Look { columns, key, version, folders, hidden_below } => {
            let options = ProveOptions {
                key: key.clone(),
                version: *version,
                folder_columns: folders.clone(),
                hidden_below: *hidden_below,
            };
            match prove_with(file, columns, &Caps::default(), &options) {
                Ok(Verdict::Adopt(adopted)) => {
                    let summary = (&adopted.summary).into();
                    head(out, &Head::Adopt { summary, hidden: adopted.hidden })?;
                    out.write(Kind::Index, &adopted.index.encode())
                }
                Ok(Verdict::Rewrite { reason, hint }) => head(out, &Head::Rewrite { reason, hint }),
                Err(error) => head(out, &Head::failed(&error)),
            }
        }
        Work::Rows { columns, key, folders, skip_rows } => {
            let request = ReadRequest {
                columns: columns.clone(),
                key: key.clone(),
                folder_columns: folders.clone(),
                skip_rows: *skip_rows,
            };
            match ForeignReader::open_with(file.clone(), &request, &Caps::default()) {
                Ok(reader) => rows(reader, out),
                Err(error) => head(out, &Head::failed(&error)),
            }
        }
    }
}

fn rows<W: Write>(mut reader: ForeignReader, out: &mut FrameWriter<W>) -> io::Result<()> {
    head(out, &Head::Open { has_versions: reader.has_versions() })?;
    let mut body = Vec::new();
    loop {
        match reader.next_batch() {
            Ok(Some(batch)) => {
                encode_batch(&batch, &mut body)?;
                out.write(Kind::Rows, &body)?;
            }
            Ok(None) => return Ok(()),
            Err(error) => return head(out, &Head::failed(&error)),
        }
    }
}

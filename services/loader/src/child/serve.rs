//! The child's side.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::Bytes;
use nacre_segment::foreign::{
    Caps, ForeignReader, ProveOptions, ReadAt, ReadRequest, Verdict, declare_key, prove_with, row_cuts,
};
use nacre_types::{Error, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use parking_lot::Mutex;

use super::frame::{FrameReader, FrameWriter, Kind};
use super::wire::{Head, PIECE_BYTES, Place, Request, Work, encode_batch};

/// What the program does when its first argument is [`super::ARGUMENT`]: serves one request from stdin to stdout, and
/// answers its exit code. Call it before anything else starts: no runtime, no logging, no threads.
pub fn main() -> i32 {
    // Past the buffers and locks of `Stdin` and `Stdout`.
    let (Ok(input), Ok(output)) =
        (io::stdin().as_fd().try_clone_to_owned(), io::stdout().as_fd().try_clone_to_owned())
    else {
        return 2;
    };
    // Pipes of 64 KiB would mean a switch between the processes for each; that they cannot be had is no matter.
    let _ = rustix::pipe::fcntl_setpipe_size(&output, 1 << 20);
    let _ = rustix::pipe::fcntl_setpipe_size(&input, 1 << 20);
    serve(File::from(input), File::from(output))
}

/// Serves one request. Answers the exit code: 0 where the parent was told how it went, whatever that was.
pub fn serve(input: impl Read + Send + 'static, output: impl Write + Send + 'static) -> i32 {
    let parent = Arc::new(Parent {
        from: Mutex::new(FrameReader::new(input)),
        to: Mutex::new(FrameWriter::new(output)),
    });
    let Some(request) = parent.request() else { return 2 };
    let told = match cap(&request).and_then(|()| open(request.file, &parent)) {
        Ok(file) => work(&file, &request.work, &*parent),
        Err(error) => parent.head(&Head::failed(&error)),
    };
    // A parent that is gone has no need of an answer.
    match told.and_then(|()| parent.to.lock().finish()) {
        Ok(()) => 0,
        Err(_) => 3,
    }
}

/// Both directions. One thread uses them; the locks are what lets a file be asked for through the same pipe.
struct Parent<R, W> {
    from: Mutex<FrameReader<R>>,
    to: Mutex<FrameWriter<W>>,
}

impl<R: Read, W: Write> Parent<R, W> {
    fn request(&self) -> Option<Request> {
        let mut json = Vec::new();
        match self.from.lock().read(&mut json) {
            Ok(Kind::Request) => serde_json::from_slice(&json).ok(),
            _ => None,
        }
    }

    fn ask(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut body = Vec::with_capacity(16);
        body.extend_from_slice(&range.start.to_le_bytes());
        body.extend_from_slice(&range.end.to_le_bytes());
        self.to.lock().write(Kind::Ask, &body)?;
        body.clear();
        match self.from.lock().read(&mut body)? {
            Kind::Bytes if body.len() as u64 == range.end - range.start => Ok(body),
            _ => Err(io::Error::other("the parent sent something else")),
        }
    }
}

/// What the work tells the parent.
trait Tell {
    fn tell(&self, kind: Kind, body: &[u8]) -> io::Result<()>;

    fn head(&self, head: &Head) -> io::Result<()> {
        self.tell(Kind::Head, &serde_json::to_vec(head)?)
    }
}

impl<R, W: Write> Tell for Parent<R, W> {
    fn tell(&self, kind: Kind, body: &[u8]) -> io::Result<()> {
        self.to.lock().write(kind, body)
    }
}

/// A file that the parent reads.
struct Asked<R, W> {
    parent: Arc<Parent<R, W>>,
    length: u64,
}

impl<R: Read + Send, W: Write + Send> ReadAt for Asked<R, W> {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        if range.start > range.end || range.end > self.length {
            return Err(Error::corrupt(format!(
                "bytes {}..{} lie beyond the end of the file of {} bytes",
                range.start, range.end, self.length
            ))
            .with_code("parquet-truncated"));
        }
        let failed = |error: io::Error| Error::unavailable(format!("asking for its bytes: {error}"));
        if range.end - range.start <= PIECE_BYTES {
            return Ok(self.parent.ask(range).map_err(failed)?.into());
        }
        // Grown by what comes: the range may be what a file claims of itself.
        let mut bytes = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + PIECE_BYTES);
            bytes.extend_from_slice(&self.parent.ask(start..end).map_err(failed)?);
            start = end;
        }
        Ok(bytes.into())
    }

    fn small_reads_are_cheap(&self) -> bool {
        false
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

fn open<R, W>(place: Place, parent: &Arc<Parent<R, W>>) -> Result<Arc<dyn ReadAt>>
where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    let path = match place {
        Place::Here(path) => path,
        Place::Asked(length) => return Ok(Arc::new(Asked { parent: parent.clone(), length })),
    };
    let file = File::open(path).map_err(|error| Error::unavailable(format!("opening it: {error}")))?;
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        return Err(Error::invalid("it is no ordinary file"));
    }
    Ok(Arc::new(file))
}

fn work(file: &Arc<dyn ReadAt>, work: &Work, parent: &dyn Tell) -> io::Result<()> {
    match work {
        Work::Declare { columns, folders } => {
            match declare_key(&**file, columns, folders, &Caps::default()) {
                Ok(schema) => parent.head(&Head::Key(schema)),
                Err(error) => parent.head(&Head::failed(&error)),
            }
        }
        Work::Look { columns, key, version, folders, hidden_below, part_bytes } => {
            let options = ProveOptions {
                key: key.clone(),
                version: *version,
                folder_columns: folders.clone(),
                hidden_below: *hidden_below,
            };
            let looked = prove_with(file, columns, &Caps::default(), &options)
                .and_then(|verdict| Ok((verdict, cuts(&**file, *part_bytes)?)));
            match looked {
                Ok((Verdict::Adopt(adopted), cuts)) => {
                    let summary = (&adopted.summary).into();
                    parent.head(&Head::Adopt { summary, hidden: adopted.hidden, cuts })?;
                    parent.tell(Kind::Index, &adopted.index.encode())
                }
                Ok((Verdict::Rewrite { reason, hint }, cuts)) => {
                    parent.head(&Head::Rewrite { reason, hint, cuts })
                }
                Err(error) => parent.head(&Head::failed(&error)),
            }
        }
        Work::Rows { columns, key, folders, skip_rows, until_row } => {
            let request = ReadRequest {
                columns: columns.clone(),
                key: key.clone(),
                folder_columns: folders.clone(),
                skip_rows: *skip_rows,
                until_row: *until_row,
            };
            match ForeignReader::open_with(file.clone(), &request, &Caps::default()) {
                Ok(reader) => rows(reader, parent),
                Err(error) => parent.head(&Head::failed(&error)),
            }
        }
    }
}

/// Where the reading of a file can be cut; nowhere where it is one part anyway.
pub(crate) fn cuts(file: &dyn ReadAt, part_bytes: u64) -> Result<Vec<u64>> {
    if file.len() <= part_bytes { Ok(Vec::new()) } else { row_cuts(file, &Caps::default(), part_bytes) }
}

fn rows(mut reader: ForeignReader, parent: &dyn Tell) -> io::Result<()> {
    parent.head(&Head::Open { has_versions: reader.has_versions() })?;
    let mut body = Vec::new();
    loop {
        match reader.next_batch() {
            Ok(Some(batch)) => {
                encode_batch(&batch, &mut body)?;
                parent.tell(Kind::Rows, &body)?;
            }
            Ok(None) => return Ok(()),
            Err(error) => return parent.head(&Head::failed(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_asked_for_in_pieces_and_put_together() {
        let length = 2 * PIECE_BYTES + 5;
        let byte = |at: u64| (at % 251) as u8;
        let mut answers = Vec::new();
        let mut parent = FrameWriter::new(&mut answers);
        for (start, end) in
            [(1, PIECE_BYTES + 1), (PIECE_BYTES + 1, 2 * PIECE_BYTES + 1), (2 * PIECE_BYTES + 1, length)]
        {
            parent.write(Kind::Bytes, &(start..end).map(byte).collect::<Vec<u8>>()).unwrap();
        }
        parent.write(Kind::Bytes, b"too long").unwrap();
        let asked = std::sync::Arc::new(Mutex::new(Vec::new()));
        let parent = Arc::new(Parent {
            from: Mutex::new(FrameReader::new(io::Cursor::new(answers))),
            to: Mutex::new(FrameWriter::new(Shared(asked.clone()))),
        });
        let file = Asked { parent, length };
        assert!(file.read_at(1..length).unwrap().iter().copied().eq((1..length).map(byte)));
        let (questions, mut body) = (asked.lock().clone(), Vec::new());
        let mut questions = FrameReader::new(&questions[..]);
        for _ in 0..3 {
            assert_eq!(questions.read(&mut body).unwrap(), Kind::Ask);
        }
        assert_eq!(questions.read(&mut body).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        // Beyond the end nobody is asked; what is not what was asked for is an error.
        assert!(file.read_at(length..length + 1).is_err());
        assert!(file.read_at(0..3).unwrap_err().detail().contains("something else"));
        assert!(file.read_at(0..3).is_err());
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

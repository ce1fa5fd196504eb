//! What an object's name says: who made it, and of which segment it is.

use nacre_manifest::{SegmentName, SegmentOrigin};
use nacre_types::{JobId, LoadId, Offset, PartitionId, SegmentId, TableId};

/// Who made an object, and alone could bring it into a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    /// A flush of this partition that began at this covered offset.
    Flush { partition: PartitionId, from: Offset },
    /// A compaction, or a load.
    Job(JobId),
    /// A load's producer, who writes what the load will read.
    Producer(LoadId),
}

/// A name that nacre mints, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) maker: Maker,
    /// The segment whose object or index it is.
    pub(super) segment: Option<SegmentId>,
}

/// What a path of a table's folders is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One that is garbage if it is proven to be.
    Candidate(Named),
    /// A manifest snapshot: these are never collected.
    Manifest,
    /// No name that nacre mints.
    Stranger,
}

impl Kind {
    /// Takes a path apart that was found in a folder of `table`, or in the staging place of one of its loads.
    pub(super) fn of(table: TableId, path: &str) -> Self {
        if let Some(rest) = path.strip_prefix("staging/") {
            return Self::candidate(staged(rest));
        }
        if let Some(name) = SegmentName::parse(path) {
            let maker = match name.origin {
                SegmentOrigin::Flush { partition, from } => Maker::Flush { partition, from },
                SegmentOrigin::Job(job) => Maker::Job(job),
            };
            let named = Named { maker, segment: Some(name.id) };
            return Self::candidate((name.table == table).then_some(named));
        }
        let Some(rest) = path.strip_prefix(&format!("tables/{table}/")) else { return Self::Stranger };
        let Some((folder, name)) = rest.split_once('/') else { return Self::Stranger };
        if folder == "manifests" {
            let is_one = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
            return if is_one { Self::Manifest } else { Self::Stranger };
        }
        Self::candidate(JobId::parse(folder).ok().and_then(|job| of_job(job, name)))
    }

    fn candidate(named: Option<Named>) -> Self {
        named.map_or(Self::Stranger, Self::Candidate)
    }
}

/// `<load>/<whatever its producer called it>`.
fn staged(rest: &str) -> Option<Named> {
    let (load, name) = rest.split_once('/')?;
    let load = LoadId::parse(load).ok()?;
    (!name.is_empty()).then_some(Named { maker: Maker::Producer(load), segment: None })
}

/// What lies below a job and is no segment: indexes of adopted files, and what a load notes of its work.
fn of_job(job: JobId, name: &str) -> Option<Named> {
    let maker = Maker::Job(job);
    if let Some(id) = name.strip_suffix(".index") {
        return Some(Named { maker, segment: Some(SegmentId::parse(id).ok()?) });
    }
    let is_minted = match name.strip_prefix("units/") {
        Some(unit) => unit.rsplit_once('-').is_some_and(|(label, hash)| is_label(label) && is_hex(hash)),
        None => name.strip_prefix("files-").or_else(|| name.strip_prefix("report-")).is_some_and(is_hex),
    };
    is_minted.then_some(Named { maker, segment: None })
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn is_hex(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableId = TableId(0xa);

    fn of(path: &str) -> Kind {
        Kind::of(TABLE, path)
    }

    fn hex(number: u128) -> String {
        format!("{number:032x}")
    }

    #[test]
    fn names_that_are_minted_say_who_made_them() {
        let (table, job, id) = (hex(0xa), hex(0xb), hex(0xc));
        let (maker, segment) = (Maker::Job(JobId(0xb)), Some(SegmentId(0xc)));
        let candidate = |maker, segment| Kind::Candidate(Named { maker, segment });
        assert_eq!(of(&format!("tables/{table}/{job}/{id}.parquet")), candidate(maker, segment));
        assert_eq!(of(&format!("tables/{table}/{job}/{id}.index")), candidate(maker, segment));
        for note in ["files-", "report-", "units/plan-", "units/read-1-00003-"] {
            assert_eq!(of(&format!("tables/{table}/{job}/{note}{id}")), candidate(maker, None), "{note}");
        }
        let flush = Maker::Flush { partition: PartitionId(7), from: Offset(90) };
        assert_eq!(of(&format!("tables/{table}/p7-90/{id}.parquet")), candidate(flush, segment));
        let producer = Maker::Producer(LoadId(0xb));
        for file in ["_begun", "day=1/part 0.parquet"] {
            assert_eq!(of(&format!("staging/{job}/{file}")), candidate(producer, None), "{file}");
        }
        assert_eq!(of(&format!("tables/{table}/manifests/{:020}", 7)), Kind::Manifest);
    }

    #[test]
    fn whatever_else_lies_there_is_a_strangers() {
        let (table, job, id) = (hex(0xa), hex(0xb), hex(0xc));
        for path in [
            // Another table, and what has its form in no table.
            format!("tables/{}/{job}/{id}.parquet", hex(0xd)),
            format!("tables/{}/{job}/files-{id}", hex(0xd)),
            format!("carried/p0-1/{id}"),
            format!("catalog/{table}/edits/{:020}", 1),
            "identity".to_owned(),
            // Nearly.
            format!("tables/{table}/{job}/{id}.parquet.bak"),
            format!("tables/{table}/{job}/{id}.parq"),
            format!("tables/{table}/{job}/x/{id}.parquet"),
            format!("tables/{table}/{job}/{}.parquet", id.to_uppercase()),
            format!("tables/{table}/{job}/{id}"),
            format!("tables/{table}/{job}/files-{id}0"),
            format!("tables/{table}/{job}/units/{id}"),
            format!("tables/{table}/{job}/units/-{id}"),
            format!("tables/{table}/{job}/units/a/b-{id}"),
            format!("tables/{table}/p07-90/{id}.parquet"),
            format!("tables/{table}/p7-90/{id}.index"),
            format!("tables/{table}/p7/{id}.parquet"),
            format!("tables/{table}/{job}"),
            format!("tables/{table}/manifests/7"),
            format!("tables/{table}/notes/x"),
            format!("staging/{job}"),
            format!("staging/{job}/"),
            "staging/mine/x".to_owned(),
        ] {
            assert_eq!(of(&path), Kind::Stranger, "{path}");
        }
    }
}

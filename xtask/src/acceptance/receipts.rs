//! Which nodes answered: HAProxy writes a line for each request, `METHOD PATH STATUS NODES`, with the nodes as the answer's
//! receipt names them.

use crate::Outcome;
use crate::report::Counts;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A fleet that was asked for fewer rows may have had them in one shard. Who asks for one row again and again asks once.
const ENOUGH: usize = 40;

/// What a fleet was asked for rows, and who answered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// By kind of request: how many were answered by so many nodes.
    kinds: BTreeMap<String, BTreeMap<usize, usize>>,
    nodes: BTreeSet<String>,
    /// Single rows that were asked for, by their paths.
    rows: BTreeSet<String>,
    /// Requests for several rows.
    of_several: usize,
}

/// `rows:batchGet` of `/v1/namespaces/n/tables/t/rows:batchGet`, `rows/` of one row.
fn kind(method: &str, path: &str) -> Option<String> {
    let last = path.split("/tables/").nth(1)?.split_once('/')?.1;
    let name = last.split_once('/').map_or(last, |(first, _)| first);
    let one = if last.contains('/') { "/{key}" } else { "" };
    name.starts_with("rows").then(|| format!("{method} {name}{one}"))
}

fn told(text: &str) -> Told {
    let mut told = Told::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [method, path, _, nodes] = words[..] else { continue };
        let Some(kind) = kind(method, path).filter(|_| nodes != "-") else { continue };
        let nodes: BTreeSet<String> = nodes.split(',').map(str::to_owned).collect();
        if kind.ends_with("/{key}") {
            told.rows.insert((*path).to_owned());
        } else {
            told.of_several += 1;
        }
        *told.kinds.entry(kind).or_default().entry(nodes.len()).or_default() += 1;
        told.nodes.extend(nodes);
    }
    told
}

/// Prints what was answered by how many nodes, and fails where one node alone answered a whole fleet's requests.
pub(crate) fn judge(folder: &Path, counts: &mut Counts) -> Outcome {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut all: BTreeMap<String, BTreeMap<usize, usize>> = BTreeMap::new();
    let mut lonely = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let told = told(&std::fs::read_to_string(&path).map_err(failed)?);
        let requests = told.rows.len() + told.of_several;
        if requests >= ENOUGH {
            match told.nodes.len() {
                0 | 1 => lonely.push(format!("{}: {requests} requests", path.display())),
                _ => counts.passed += 1,
            }
        }
        for (kind, by_nodes) in told.kinds {
            let kind = all.entry(kind).or_default();
            by_nodes.into_iter().for_each(|(nodes, count)| *kind.entry(nodes).or_default() += count);
        }
    }
    println!("requests for rows, by the number of nodes that answered:");
    for (kind, by_nodes) in &all {
        let list: Vec<String> =
            by_nodes.iter().map(|(nodes, requests)| format!("{requests} by {nodes}")).collect();
        println!("  {kind:<22} {}", list.join(", "));
    }
    if !lonely.is_empty() {
        return Err(format!("one node answered everything: {}", lonely.join("; ")));
    }
    if counts.passed == 0 {
        return Err("no fleet was asked for enough rows to show anything".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_for_rows_are_counted_by_the_nodes_that_answered() {
        let text = "\
            PUT /v1/namespaces/default/tables/t 201 -\n\
            PUT /v1/namespaces/default/tables/t/rows/k 204 a\n\
            GET /v1/namespaces/default/tables/t/rows/k/2 200 a\n\
            POST /v1/namespaces/default/tables/t/rows:batchGet 200 a,b\n\
            POST /v1/namespaces/default/tables/t/rows:batchGet 200 b\n\
            POST /v1/namespaces/default/tables/t/loads/x:commit 200 c\n\
            GET /readyz 200 -\n\
            Server dispatchers/dispatcher-1 is DOWN\n";
        let told = told(text);
        let counted = |kind: &str| told.kinds.get(kind).cloned().unwrap_or_default();
        assert_eq!(counted("POST rows:batchGet"), BTreeMap::from([(1, 1), (2, 1)]));
        assert_eq!(counted("PUT rows/{key}"), BTreeMap::from([(1, 1)]));
        assert_eq!(counted("GET rows/{key}"), BTreeMap::from([(1, 1)]));
        assert_eq!(told.kinds.len(), 3);
        assert_eq!(told.nodes, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert_eq!((told.rows.len(), told.of_several), (2, 2));
    }
}

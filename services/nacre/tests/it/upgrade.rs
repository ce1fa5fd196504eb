//! The first release and this one on one store, in turns and together, until its format level is raised.
//!
//! `NACRE_TEST_OLD_PROGRAM=FILE cargo test -p nacre --test it upgrade`: FILE is the older program, which nobody can be asked to
//! build by the way; without it there is nothing to see.

use super::bad_files::load;
use super::harness::{Http, Server, done, nacre};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const TABLE: &str = "/v1/namespaces/default/tables/t";

/// What the table must hold.
type Rows = BTreeMap<String, String>;

fn older(program: &Path, folder: &Path) -> Server {
    let mut command = Command::new(program);
    command.env_clear().current_dir(folder).stdin(std::process::Stdio::null());
    Server::start_by(command, folder, &[])
}

fn write(server: &Server, name: &str, rows: &mut Rows) {
    let http = Http::of(server);
    for n in 0..40 {
        let (key, value) = (format!("{}-{n:02}", ["a", "k", "x"][n % 3]), format!("{name}-{n}"));
        assert_eq!(http.ask("PUT", &format!("{TABLE}/rows/{key}"), &value).0, 204, "{name}");
        rows.insert(key, value);
    }
    let file: Vec<_> = (0..200).map(|n| (format!("loaded-{name}-{n:03}"), format!("{name}-{n}"))).collect();
    let told = load(
        &http,
        json!({"mode": "merge", "version": "now"}),
        &[("f", &super::bad_files::said_to_be_sorted(&file))],
    );
    assert_eq!(told["state"], "committed", "{name}: {told}");
    rows.extend(file);
}

fn read(server: &Server, name: &str, rows: &Rows) {
    let http = Http::of(server);
    let mut seen = Rows::new();
    let mut page = String::new();
    loop {
        let (status, told) =
            http.ask("GET", &format!("{TABLE}/rows?consistency=strong&page_size=1000{page}"), "");
        assert_eq!(status, 200, "{name}: {told}");
        for row in told["rows"].as_array().unwrap() {
            seen.insert(row["key"].as_str().unwrap().into(), row["value"].as_str().unwrap().into());
        }
        match told["next_page_token"].as_str() {
            Some(token) => page = format!("&page_token={token}"),
            None => break,
        }
    }
    assert_eq!(&seen, rows, "{name}");
}

#[test]
fn two_releases_serve_one_store_until_it_is_upgraded() {
    let Some(program) = std::env::var_os("NACRE_TEST_OLD_PROGRAM") else { return };
    let (program, folder) = (Path::new(&program), tempfile::tempdir().unwrap());
    let (old, new) = (|| older(program, folder.path()), || Server::start(folder.path(), &[]));
    let mut rows = Rows::new();

    let first = old();
    assert_eq!(Http::of(&first).ask("PUT", TABLE, "{}").0, 201);
    write(&first, "old alone", &mut rows);
    let second = new();
    read(&second, "new beside old", &rows);
    write(&second, "new beside old", &mut rows);
    read(&first, "old beside new", &rows);
    write(&first, "old beside new", &mut rows);
    read(&second, "new after old", &rows);

    // The old one goes, and comes back to what the new one alone has made.
    assert_eq!(first.stop(), 0);
    write(&second, "new alone", &mut rows);
    let first = old();
    read(&first, "old again", &rows);
    second.kill();
    write(&first, "old after new was killed", &mut rows);
    let second = new();
    read(&second, "new again", &rows);
    first.kill();
    write(&second, "new after old was killed", &mut rows);
    assert_eq!(second.stop(), 0);
    let first = old();
    read(&first, "back to old", &rows);
    write(&first, "back to old", &mut rows);
    assert_eq!(first.stop(), 0);

    done(nacre(folder.path()).args(["format", "upgrade", "--data", "data"])).well();
    let second = new();
    read(&second, "new, upgraded", &rows);
    write(&second, "new, upgraded", &mut rows);
    let mut command = Command::new(program);
    command.env_clear().current_dir(folder.path());
    let refused = done(command.args(["serve", "--listen", "127.0.0.1:0", "--data", "data"]));
    assert!(refused.code != 0 && refused.stderr.contains("format level"), "{refused:?}");
    read(&second, "new, upgraded", &rows);
    assert_eq!(second.stop(), 0);
}

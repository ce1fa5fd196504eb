//! `openapi.json` is what the code says. The comparison is a test of `nacre-dispatcher`, which can also write the file anew;
//! this step runs it by name, so that a stale file is named as such.

use crate::report::Counts;
use crate::{Outcome, process};
use std::path::PathBuf;
use std::time::Duration;

/// The checked-in description of the API.
pub(crate) fn file() -> PathBuf {
    process::root().join("openapi.json")
}

pub(crate) fn check(counts: &mut Counts) -> Outcome {
    if !file().is_file() {
        return Err("openapi.json is missing".into());
    }
    let mut ran = 0;
    let mut cargo =
        process::cargo(&["test", "--locked", "--package", "nacre-dispatcher", "--all-features", "openapi"]);
    process::run_lines(&mut cargo, Duration::from_secs(900), |line| {
        ran += u64::from(line.starts_with("test ") && line.ends_with("... ok"));
    })?;
    if ran == 0 {
        return Err("nacre-dispatcher has no test with openapi in its name: nothing was compared".into());
    }
    *counts = Counts { passed: ran, failed: 0 };
    Ok(())
}

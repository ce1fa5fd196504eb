//! What the tests need besides cargo, installed once into a cache folder.
//!
//! The folder is `NACRE_CACHE`, else `nacre-xtask` in `XDG_CACHE_HOME` or `~/.cache`. The Python environment in it is
//! made for one `requirements.txt`, whose text is kept beside it: when the list changes, it is installed anew.

use crate::{Outcome, process};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const REQUIREMENTS: &str = include_str!("../python/requirements.txt");

/// The cache folder.
pub(crate) fn folder() -> Outcome<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("NACRE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|base| base.join("nacre-xtask")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/nacre-xtask")))
        .ok_or_else(|| "none of NACRE_CACHE, XDG_CACHE_HOME and HOME is set: no place for a cache".into())
}

/// The interpreter of the cached Python environment, installed if it is missing or out of date.
pub(crate) fn python() -> Outcome<PathBuf> {
    let home = folder()?.join("python");
    let interpreter = home.join("bin/python");
    let stamp = home.join("requirements.installed");
    if interpreter.exists() && std::fs::read_to_string(&stamp).is_ok_and(|text| text == REQUIREMENTS) {
        return Ok(interpreter);
    }
    install(&home, &interpreter)?;
    // Written last: an installation that was cut short is repeated, never trusted.
    std::fs::write(&stamp, REQUIREMENTS).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(interpreter)
}

fn install(home: &Path, interpreter: &Path) -> Outcome {
    println!("installing the Python packages of the tests into {} (once)", home.display());
    let list = process::root().join("xtask/python/requirements.txt");
    if !interpreter.exists() {
        let mut venv = Command::new("python3");
        process::run(venv.args(["-m", "venv"]).arg(home), Duration::from_secs(120))?;
    }
    let mut pip = Command::new(interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(list);
    process::run(&mut pip, Duration::from_secs(1_200))
}

//! What the tests need besides cargo, installed once into a cache folder.
//!
//! The folder is `NACRE_CACHE`, else `nacre-xtask` in `XDG_CACHE_HOME` or `~/.cache`. A Python environment in it is
//! made for one list of packages, whose text is kept beside it: when the list changes, it is installed anew. A Go
//! program is built from a module of one version, and believed only if the module's own checksum is the one pinned. The
//! jars of a Java program are those that Maven finds for one pom.xml, whose text is kept beside them likewise.

use crate::{Outcome, process};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A Python environment: its folder, and the list of what is in it.
struct Environment {
    name: &'static str,
    file: &'static str,
    list: &'static str,
}

const PYTHON: Environment = Environment {
    name: "python",
    file: "xtask/python/requirements.txt",
    list: include_str!("../python/requirements.txt"),
};
const MINISTACK: Environment = Environment {
    name: "ministack",
    file: "xtask/python/ministack.txt",
    list: include_str!("../python/ministack.txt"),
};

const VERSITYGW: &str = "github.com/versity/versitygw";
const VERSITYGW_VERSION: &str = "v1.8.0";
/// Go's checksum of the module. Those of what it needs are looked up by Go itself, in its public list.
const VERSITYGW_SUM: &str = "h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc=";

const DYNAMODB_LOCAL: &str = "dynamodb-local";
const DYNAMODB_LOCAL_POM: &str = include_str!("../dynamodb-local/pom.xml");
const KAFKA: &str = "kafka";
const KAFKA_POM: &str = include_str!("../kafka/pom.xml");
const SPARK_S3A: &str = "spark-s3a";
const SPARK_S3A_POM: &str = include_str!("../spark-s3a/pom.xml");

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
    Ok(environment(&PYTHON)?.join("bin/python"))
}

/// The program `ministack`, an S3 server among other things, installed if it is missing or out of date.
pub(crate) fn ministack() -> Outcome<PathBuf> {
    Ok(environment(&MINISTACK)?.join("bin/ministack"))
}

/// The program `versitygw`, an S3 server over a folder, built if it is missing. Go is needed for it.
pub(crate) fn versitygw() -> Outcome<PathBuf> {
    let home = folder()?.join(format!("versitygw-{VERSITYGW_VERSION}"));
    let program = home.join("versitygw");
    if is_pinned(&program).is_ok_and(|is| is) {
        return Ok(program);
    }
    eprintln!("building an S3 server for the tests into {} (once)", home.display());
    let mut go = Command::new("go");
    go.args(["install", &format!("{VERSITYGW}/cmd/versitygw@{VERSITYGW_VERSION}")]).env("GOBIN", &home);
    process::run_aside(&mut go, Duration::from_secs(1_200))?;
    if is_pinned(&program)? {
        Ok(program)
    } else {
        Err(format!("{} was not built from the module that is pinned", program.display()))
    }
}

/// The folder with the jars of DynamoDB Local, copied if they are missing or out of date. Maven is needed for it.
pub(crate) fn dynamodb_local() -> Outcome<PathBuf> {
    jars(DYNAMODB_LOCAL, DYNAMODB_LOCAL_POM)
}

/// Likewise those of Kafka.
pub(crate) fn kafka() -> Outcome<PathBuf> {
    jars(KAFKA, KAFKA_POM)
}

/// Likewise those with which Spark reads and writes S3.
pub(crate) fn spark_s3a() -> Outcome<PathBuf> {
    jars(SPARK_S3A, SPARK_S3A_POM)
}

/// The jars that `xtask/<name>/pom.xml`, whose text is `pom`, asks for.
fn jars(name: &str, pom: &str) -> Outcome<PathBuf> {
    const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
    let home = folder()?.join(name);
    let stamp = home.join("pom.installed");
    let jars = home.join("jars");
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == pom) {
        return Ok(jars);
    }
    eprintln!("installing {name} for the tests into {} (once)", home.display());
    match std::fs::remove_dir_all(&jars) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{}: {error}", jars.display()));
        }
        _ => {}
    }
    let file = process::root().join("xtask").join(name).join("pom.xml");
    let mut mvn = Command::new("mvn");
    mvn.args(["-q", "-B", "-f"]).arg(file).arg(COPY).arg("-DincludeScope=runtime");
    mvn.arg(format!("-DoutputDirectory={}", jars.display()));
    process::run_aside(&mut mvn, Duration::from_secs(900))?;
    // Written last: an installation that was cut short is repeated, never trusted.
    std::fs::write(&stamp, pom).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(jars)
}

/// Whether a Go program was built from the pinned module, as it says itself.
fn is_pinned(program: &Path) -> Outcome<bool> {
    if !program.exists() {
        return Ok(false);
    }
    let said = process::output(Command::new("go").args(["version", "-m"]).arg(program))?;
    let wanted = ["mod", VERSITYGW, VERSITYGW_VERSION, VERSITYGW_SUM];
    Ok(said.lines().any(|line| line.split_whitespace().eq(wanted)))
}

/// The folder of a Python environment.
fn environment(wanted: &Environment) -> Outcome<PathBuf> {
    let home = folder()?.join(wanted.name);
    let interpreter = home.join("bin/python");
    let stamp = home.join("requirements.installed");
    if interpreter.exists() && std::fs::read_to_string(&stamp).is_ok_and(|text| text == wanted.list) {
        return Ok(home);
    }
    install(wanted, &home, &interpreter)?;
    // Written last: an installation that was cut short is repeated, never trusted.
    std::fs::write(&stamp, wanted.list).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(home)
}

fn install(wanted: &Environment, home: &Path, interpreter: &Path) -> Outcome {
    eprintln!("installing {} for the tests into {} (once)", wanted.name, home.display());
    let list = process::root().join(wanted.file);
    if !interpreter.exists() {
        let mut venv = Command::new("python3");
        process::run_aside(venv.args(["-m", "venv"]).arg(home), Duration::from_secs(120))?;
    }
    let mut pip = Command::new(interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(list);
    process::run_aside(&mut pip, Duration::from_secs(1_200))
}

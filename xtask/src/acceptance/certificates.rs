//! An authority and one certificate for everybody on this machine, made by the program `openssl`.

use crate::{Outcome, process};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with `ca.pem`, `own.pem`, `own.key`, and `own.both` (key, certificate and authority), as brokers and HAProxy
/// want it.
#[derive(Debug, Clone)]
pub(crate) struct Certificates(pub(crate) PathBuf);

impl Certificates {
    pub(crate) fn make(folder: &Path) -> Outcome<Self> {
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(folder).map_err(failed)?;
        let made = Self(folder.to_owned());
        let openssl = |words: &str| {
            let mut command = Command::new("openssl");
            command.args(words.split(' ')).current_dir(folder);
            process::output(&mut command).map_err(|error| format!("{error}; Debian's package openssl has it"))
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc";
        openssl(&format!(
            "req -x509 {key} -keyout ca.key -out ca.pem -days 30 -subj /CN=authority -addext \
             basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
        ))?;
        openssl(&format!("req {key} -keyout own.key -out own.csr -subj /CN=own"))?;
        std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n")
            .map_err(failed)?;
        openssl(
            "x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out own.pem",
        )?;
        let mut both = Vec::new();
        for part in ["own.key", "own.pem", "ca.pem"] {
            both.extend(std::fs::read(folder.join(part)).map_err(failed)?);
        }
        std::fs::write(made.both(), both).map_err(failed)?;
        Ok(made)
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    pub(crate) fn own(&self) -> PathBuf {
        self.0.join("own.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("own.key")
    }

    pub(crate) fn both(&self) -> PathBuf {
        self.0.join("own.both")
    }
}

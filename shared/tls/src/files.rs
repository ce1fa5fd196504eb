//! PEM files, and what holds what was made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use nacre_types::{Error, Result};
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Longest file that is read.
const FILE_BYTES: u64 = 4 << 20;

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(crate) fn wrong(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("{}: {why}", path.display())).with_code("tls-files")
}

/// A file, read.
pub(crate) struct File<'a> {
    pub(crate) path: &'a Path,
    pub(crate) bytes: Vec<u8>,
}

impl File<'_> {
    /// Its certificates, in their order.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let all: Vec<_> = CertificateDer::pem_slice_iter(&self.bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(self.path, format!("no PEM certificates: {error}")))?;
        if all.is_empty() {
            return Err(wrong(self.path, "it holds no certificate (-----BEGIN CERTIFICATE-----)"));
        }
        Ok(all)
    }

    /// Its private key. What is wrong is told without a byte of it.
    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|_| {
            wrong(
                self.path,
                "it holds no private key in PEM (PKCS #8, PKCS #1 or SEC1), or one with a password",
            )
        })
    }

    /// Its certificates as those that are trusted.
    pub(crate) fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| wrong(self.path, error))?;
        }
        Ok(roots)
    }
}

/// Something that is made of files, and made anew when they change.
pub(crate) struct Made<T> {
    paths: Vec<PathBuf>,
    current: ArcSwap<T>,
    /// What the files were when they were last looked at, whether anything came of them or not.
    seen: Mutex<Option<[u8; 32]>>,
}

impl<T> Made<T> {
    pub(crate) fn new(paths: Vec<PathBuf>, make: impl FnOnce(&[File<'_>]) -> Result<T>) -> Result<Self> {
        let files = read(&paths)?;
        let (current, seen) = (make(&files)?, digest(&files));
        drop(files);
        Ok(Self { paths, current: ArcSwap::from_pointee(current), seen: Mutex::new(Some(seen)) })
    }

    pub(crate) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Reads the files again; answers whether something new came of them.
    ///
    /// # Errors
    /// What is wrong with them, once for each state that they are in.
    pub(crate) fn reload(&self, make: impl FnOnce(&[File<'_>]) -> Result<T>) -> Result<bool> {
        let files = match read(&self.paths) {
            Ok(files) => files,
            // A file that is away is told once as well.
            Err(error) => return if self.seen.lock().take().is_some() { Err(error) } else { Ok(false) },
        };
        let digest = digest(&files);
        if self.seen.lock().replace(digest) == Some(digest) {
            return Ok(false);
        }
        self.current.store(Arc::new(make(&files)?));
        Ok(true)
    }
}

fn read(paths: &[PathBuf]) -> Result<Vec<File<'_>>> {
    let read = |path: &'_ PathBuf| {
        let length = std::fs::metadata(path).map_err(|error| wrong(path, error))?.len();
        if length > FILE_BYTES {
            return Err(wrong(path, format!("{length} bytes; certificates and keys have less than 4 MiB")));
        }
        std::fs::read(path).map_err(|error| wrong(path, error))
    };
    paths.iter().map(|path| Ok(File { path, bytes: read(path)? })).collect()
}

fn digest(files: &[File<'_>]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for file in files {
        context.update(&(file.bytes.len() as u64).to_be_bytes());
        context.update(&file.bytes);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// Says what became of reading files again.
pub(crate) fn told(what: &'static str, outcome: Result<bool>) {
    match outcome {
        Ok(true) => tracing::info!(what, "certificates were read anew"),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(what, %error, "certificates cannot be read anew; the ones from before stay in use")
        }
    }
}

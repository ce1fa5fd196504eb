//! The server's side.

use std::fmt;
use std::path::PathBuf;

use nacre_types::{Error, Result};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::files::{File, Made, provider, told, wrong};
use crate::{HANDSHAKE_LIMIT, REREAD_EVERY, protocols};

/// Where a server's certificates lie, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// Its certificate, and after it those that lead to the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs clients' certificates; then every client must have one. `None` = none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// A connection that a server accepted.
pub type ServerStream<S = TcpStream> = tokio_rustls::server::TlsStream<S>;

/// Accepts connections.
pub struct Server {
    files: ServerFiles,
    made: Made<ServerConfig>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Server {
    /// Reads the files.
    ///
    /// # Errors
    /// `Invalid` (`tls-files`) naming the file and what is wrong with it.
    pub fn open(files: ServerFiles) -> Result<Self> {
        let mut paths = vec![files.certificate.clone(), files.key.clone()];
        paths.extend(files.client_ca.clone());
        Ok(Self { files, made: Made::new(paths, make)? })
    }

    /// Shakes hands, for at most [`HANDSHAKE_LIMIT`].
    ///
    /// # Errors
    /// `Unavailable` (`tls-handshake`): the client speaks no TLS, none that is safe, or has no certificate that it should.
    pub async fn accept<S>(&self, stream: S) -> Result<ServerStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accept = TlsAcceptor::from(self.made.current()).accept(stream);
        match tokio::time::timeout(HANDSHAKE_LIMIT, accept).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(failed(format!("it took longer than {HANDSHAKE_LIMIT:?}"))),
        }
    }

    /// Reads the files again; answers whether they changed. What is there stays where they are wrong, which is told once.
    ///
    /// # Errors
    /// As [`Server::open`].
    pub fn reload(&self) -> Result<bool> {
        self.made.reload(make)
    }

    /// Reads the files again every [`REREAD_EVERY`]. Ends by being dropped.
    pub async fn keep_fresh(&self) {
        loop {
            tokio::time::sleep(REREAD_EVERY).await;
            told("server", self.reload());
        }
    }
}

pub(crate) fn failed(why: impl fmt::Display) -> Error {
    Error::unavailable(format!("the TLS handshake failed: {why}")).with_code("tls-handshake")
}

/// Whether the two sides agreed on HTTP/2.
pub fn is_http2<S>(stream: &ServerStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

fn make(files: &[File<'_>]) -> Result<ServerConfig> {
    let [certificate, key, ca @ ..] = files else { return Err(Error::internal("a server has two files")) };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal(error.to_string()))?;
    let builder = match ca.first() {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(ca.roots()?.into(), provider())
                .build()
                .map_err(|error| wrong(ca.path, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    // Also where the key belongs to another certificate.
    let mut config = builder.with_single_cert(certificate.certificates()?, key.key()?).map_err(|error| {
        wrong(certificate.path, format!("with the key of {}: {error}", key.path.display()))
    })?;
    config.alpn_protocols = protocols();
    Ok(config)
}

//! The client's side.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use nacre_types::{Error, Result};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::files::{File, Made, provider, told, wrong};
use crate::server::failed;
use crate::{HANDSHAKE_LIMIT, REREAD_EVERY, protocols};

/// Where a client's certificates lie, in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// Whom it trusts, instead of whom this machine trusts.
    pub ca: Option<PathBuf>,
    /// Its own certificate, with those that lead to the root, and the private key; for servers that ask for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// A connection that a client made.
pub type ClientStream<S = TcpStream> = tokio_rustls::client::TlsStream<S>;

/// Makes connections.
pub struct Client {
    files: ClientFiles,
    made: Made<Arc<ClientConfig>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the files.
    ///
    /// # Errors
    /// `Invalid` (`tls-files`) naming the file and what is wrong with it.
    pub fn open(files: ClientFiles) -> Result<Self> {
        let own = files.certificate.iter().flat_map(|(certificate, key)| [certificate.clone(), key.clone()]);
        let paths = own.chain(files.ca.clone()).collect();
        let made = Made::new(paths, |read| make(&files, read))?;
        Ok(Self { files, made })
    }

    /// A configuration that trusts nobody: for a client of HTTP that wants one and will not use it.
    ///
    /// # Errors
    /// None that is known.
    pub fn without_roots() -> Result<Arc<ClientConfig>> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal(error.to_string()))?;
        Ok(Arc::new(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()))
    }

    /// Shakes hands with the server called `host` (a name or an address, without a port), for at most
    /// [`HANDSHAKE_LIMIT`].
    ///
    /// # Errors
    /// `Invalid` (`server-name`); `Unavailable` (`tls-handshake`): the server speaks no TLS, or is not one to trust.
    pub async fn connect<S>(&self, host: &str, stream: S) -> Result<ClientStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // An address of IPv6 stands in brackets in a URL.
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| {
            Error::invalid(format!("{host:?} is no name of a server")).with_code("server-name")
        })?;
        let connect = TlsConnector::from(self.config()).connect(name, stream);
        match tokio::time::timeout(HANDSHAKE_LIMIT, connect).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(failed(format!("it took longer than {HANDSHAKE_LIMIT:?}"))),
        }
    }

    /// The configuration as it is now, for a client of HTTP that makes its own connections.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.made.current())
    }

    /// Reads the files again; answers whether they changed. What is there stays where they are wrong, which is told once.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn reload(&self) -> Result<bool> {
        self.made.reload(|read| make(&self.files, read))
    }

    /// Reads the files again every [`REREAD_EVERY`]. Ends by being dropped.
    pub async fn keep_fresh(&self) {
        loop {
            tokio::time::sleep(REREAD_EVERY).await;
            told("client", self.reload());
        }
    }
}

fn make(files: &ClientFiles, read: &[File<'_>]) -> Result<Arc<ClientConfig>> {
    let (own, ca) = match (&files.certificate, read) {
        (Some(_), [certificate, key, ca @ ..]) => (Some((certificate, key)), ca),
        (_, ca) => (None, ca),
    };
    let roots = match ca.first() {
        Some(ca) => ca.roots()?,
        None => native_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal(error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            builder.with_client_auth_cert(certificate.certificates()?, key.key()?).map_err(|error| {
                wrong(certificate.path, format!("with the key of {}: {error}", key.path.display()))
            })?
        }
    };
    config.alpn_protocols = protocols();
    Ok(Arc::new(config))
}

fn native_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Machines trust one or the other that is no certificate any more.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or("none is there".to_owned(), ToString::to_string);
        return Err(Error::invalid(format!(
            "this machine's root certificates cannot be read ({why}); name a file with those to trust"
        ))
        .with_code("tls-files"));
    }
    Ok(roots)
}

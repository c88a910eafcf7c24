//! A second look at a server that a client could not speak to: whether it speaks TLS at all, and
//! what its certificate says. The clients' own words tell neither.

use std::io;
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::ssl::{HandshakeError, SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::{X509, X509NameRef, X509Ref, X509VerifyResult};

/// As many names of a certificate are shown.
const NAMES_MAX: usize = 5;

/// Which authorities are believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Trust {
    /// A PEM file, or a folder of them in OpenSSL's manner.
    pub(super) file: Option<PathBuf>,
    /// Certificates in PEM.
    pub(super) pem: Option<String>,
    /// Whether the system's are believed too.
    pub(super) is_system_trusted: bool,
    /// Whether any certificate is believed.
    pub(super) is_anything_trusted: bool,
    /// Whether the certificate has to be for the host that was asked for.
    pub(super) checks_name: bool,
}

/// What a server shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// No connection, or no answer to the first bytes.
    Away(String),
    /// It speaks something else.
    NotTls,
    /// It speaks TLS, and ends the handshake with these words.
    Refuses(String),
    /// It speaks TLS.
    Tls(Certificate),
}

/// The certificate of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    /// Why it is not believed: OpenSSL's number; `None`: it is.
    pub(super) fault: Option<i32>,
    /// Of the certificate that is at fault, else of the server's.
    pub(super) subject: String,
    pub(super) issuer: String,
    /// Seconds since 1970 UTC.
    pub(super) not_before_s: i64,
    /// Likewise.
    pub(super) not_after_s: i64,
    /// The hosts that the server's is for.
    pub(super) names: Vec<String>,
}

/// Looks at `host:port`; each step takes no longer than `wait`. Blocks.
pub(super) fn look(host: &str, port: u16, trust: &Trust, wait: Duration) -> Look {
    let stream = match connect(host, port, wait) {
        Ok(stream) => stream,
        Err(error) => return Look::Away(error.to_string()),
    };
    match handshake(host, trust, stream) {
        Ok(look) => look,
        Err(error) => Look::Away(error.to_string()),
    }
}

fn connect(host: &str, port: u16, wait: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, wait) {
            Ok(stream) => {
                stream.set_read_timeout(Some(wait))?;
                stream.set_write_timeout(Some(wait))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Goes on whatever is wrong with a certificate, and keeps the first fault.
fn handshake(host: &str, trust: &Trust, stream: TcpStream) -> Result<Look, ErrorStack> {
    let fault: Arc<Mutex<Option<Certificate>>> = Arc::default();
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    if !trust.is_system_trusted {
        let none = openssl::x509::store::X509StoreBuilder::new()?;
        builder.set_cert_store(none.build());
    } else {
        let found = openssl_probe::probe();
        // Without any of the system's its own default is all there is.
        let _ = builder.load_verify_locations(
            found.cert_file.as_deref(),
            found.cert_dir.first().map(PathBuf::as_path),
        );
    }
    if let Some(path) = &trust.file {
        let (file, folder) = match path.is_dir() {
            true => (None, Some(path.as_path())),
            false => (Some(path.as_path()), None),
        };
        builder.load_verify_locations(file, folder)?;
    }
    if let Some(pem) = &trust.pem {
        for certificate in X509::stack_from_pem(pem.as_bytes())? {
            builder.cert_store_mut().add_cert(certificate)?;
        }
    }
    let seen = fault.clone();
    let is_anything_trusted = trust.is_anything_trusted;
    builder.set_verify_callback(SslVerifyMode::PEER, move |is_believed, context| {
        if !is_believed
            && !is_anything_trusted
            && let Some(certificate) = context.current_cert()
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.get_or_insert_with(|| read(certificate, Some(context.error())));
        }
        true
    });
    let mut configuration = builder.build().configure()?;
    configuration.set_verify_hostname(trust.checks_name);
    let stream = match configuration.connect(host, stream) {
        Ok(stream) => stream,
        Err(HandshakeError::SetupFailure(error)) => return Err(error),
        Err(HandshakeError::Failure(failed) | HandshakeError::WouldBlock(failed)) => {
            let error = failed.error();
            return Ok(match (error.io_error(), error.ssl_error()) {
                (Some(error), _) if is_time_out(error) => {
                    Look::Away("it takes connections, but does not answer".to_owned())
                }
                (_, Some(stack)) if stack.to_string().contains("alert") => {
                    Look::Refuses(stack.to_string())
                }
                _ => Look::NotTls,
            });
        }
    };
    let Some(certificate) = stream.ssl().peer_certificate() else {
        return Ok(Look::Refuses("it shows no certificate".to_owned()));
    };
    let own = read(&certificate, None);
    let fault = fault.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(Look::Tls(match fault {
        Some(fault) => Certificate {
            names: own.names,
            ..fault
        },
        None => own,
    }))
}

fn is_time_out(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn read(certificate: &X509Ref, fault: Option<X509VerifyResult>) -> Certificate {
    let names = certificate.subject_alt_names();
    let names = names.iter().flatten().filter_map(|name| {
        let address = || match name.ipaddress()? {
            [a, b, c, d] => Some(IpAddr::from([*a, *b, *c, *d]).to_string()),
            bytes => {
                let bytes: [u8; 16] = bytes.try_into().ok()?;
                Some(IpAddr::from(bytes).to_string())
            }
        };
        name.dnsname().map(str::to_owned).or_else(address)
    });
    Certificate {
        fault: fault.map(|fault| fault.as_raw()),
        subject: in_words(certificate.subject_name()),
        issuer: in_words(certificate.issuer_name()),
        not_before_s: seconds(certificate.not_before()),
        not_after_s: seconds(certificate.not_after()),
        names: names.take(NAMES_MAX).collect(),
    }
}

/// `CN=groundtrack, O=example`
fn in_words(name: &X509NameRef) -> String {
    let parts = name.entries().map(|entry| {
        let key = entry.object().nid().short_name().unwrap_or("?");
        let value = entry.data().to_string();
        format!("{key}={}", value.unwrap_or_else(|_| "?".to_owned()))
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn seconds(time: &Asn1TimeRef) -> i64 {
    let since_1970 = Asn1Time::from_unix(0).and_then(|epoch| epoch.diff(time));
    since_1970.map_or(0, |diff| {
        i64::from(diff.days) * 86_400 + i64::from(diff.secs)
    })
}

//! Where Prometheus asks: `GET /metrics` by HTTP 1.1 (hyper's), one answer per connection. Nothing else is served, and nobody can change
//! anything here.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::timeout;

use super::metrics;
use super::rulebook::Rulebook;
use crate::host::Client;

/// The most who are answered at once; more wait to be let in.
const MAX_SCRAPES: usize = 4;
/// The longest head of a request, in bytes: the least that hyper allows.
const MAX_REQUEST: usize = 8 << 10;
/// How long a caller may take over its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// And over all, with the time in which the host is asked and the answer is read.
const LONGEST: Duration = Duration::from_secs(20);

/// Where to listen: `ADDRESS:PORT`, or `:PORT` for every address of the pod or node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeAddress(SocketAddr);

impl FromStr for ScrapeAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let every = text.strip_prefix(':').map(|port| format!("[::]:{port}"));
        let address = every.as_deref().unwrap_or(text).parse();
        address.map(Self).map_err(|_| format!("\"{text}\" is no address: write :9810 or 127.0.0.1:9810"))
    }
}

impl fmt::Display for ScrapeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ScrapeAddress {
    /// Every address is IPv4's alone where the kernel has no IPv6.
    fn candidates(&self) -> Vec<SocketAddr> {
        let every = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), self.0.port());
        let more = (self.0.ip() == Ipv6Addr::UNSPECIFIED).then_some(every);
        [self.0].into_iter().chain(more).collect()
    }
}

/// Answers for as long as the runtime lives.
///
/// # Errors
/// Where `address` cannot be had.
pub(super) async fn answer(address: &ScrapeAddress, rules: Rulebook, host: Client) -> io::Result<()> {
    let listener = TcpListener::bind(&address.candidates()[..]).await?;
    tracing::info!(%address, "metrics are told");
    let places = Arc::new(Semaphore::new(MAX_SCRAPES));
    tokio::spawn(async move {
        loop {
            // Never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((caller, _)) => {
                    let (rules, host) = (rules.clone(), host.clone());
                    tokio::spawn(async move {
                        let _place = place;
                        if let Err(error) = converse(caller, rules, host).await {
                            tracing::debug!(%error, "a scrape came to nothing");
                        }
                    });
                }
                // Out of descriptors, for the moment.
                Err(error) => {
                    tracing::error!(%error, "cannot accept a scrape");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

/// One caller, from its request to the end of its answer.
async fn converse(
    caller: TcpStream,
    rules: Rulebook,
    host: Client,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let service = service_fn(move |request| respond(request, rules.clone(), host.clone()));
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_REQUEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(caller), service);
    Ok(timeout(LONGEST, conversation).await??)
}

/// A request's body means nothing and is not read.
async fn respond(
    request: Request<Incoming>,
    rules: Rulebook,
    host: Client,
) -> Result<Response<String>, JoinError> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, body) = match request.uri().path() {
        _ if !reads => (StatusCode::METHOD_NOT_ALLOWED, "there is GET /metrics\n".to_owned()),
        "/metrics" => {
            let told = tokio::task::spawn_blocking(move || metrics::text(&rules.check(), &host.survey()));
            (StatusCode::OK, told.await?)
        }
        _ => (StatusCode::NOT_FOUND, "there is /metrics\n".to_owned()),
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    if !reads {
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_every_address_of_whichever_protocols_there_are() {
        let every: ScrapeAddress = ":9810".parse().unwrap();
        let candidates: Vec<_> = every.candidates().iter().map(ToString::to_string).collect();
        assert_eq!(candidates, ["[::]:9810", "0.0.0.0:9810"]);
        let one: ScrapeAddress = "127.0.0.1:9810".parse().unwrap();
        assert_eq!(one.candidates().len(), 1);
        for bad in ["", ":", "9810", "host:9810", ":99999"] {
            assert!(bad.parse::<ScrapeAddress>().unwrap_err().contains(":9810"), "{bad}");
        }
    }
}

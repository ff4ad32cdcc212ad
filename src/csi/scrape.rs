//! Where Prometheus asks: `GET /metrics` by HTTP 1.1, one answer per connection. Nothing else is served, and nobody can change
//! anything here.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::metrics;
use super::rulebook::Rulebook;
use crate::host::Client;

/// The most who are answered at once; more wait to be let in.
const MAX_SCRAPES: usize = 4;
/// The longest request that is read, in bytes.
const MAX_REQUEST: usize = 8 << 10;
/// How long a caller may take over its request, and again over the answer.
const PATIENCE: Duration = Duration::from_secs(5);

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

async fn converse(mut caller: TcpStream, rules: Rulebook, host: Client) -> io::Result<()> {
    let request = timeout(PATIENCE, request(&mut caller)).await??;
    let (status, body) = match request.split(' ').collect::<Vec<_>>()[..] {
        ["GET", path, _] if path.split('?').next() == Some("/metrics") => {
            let told = tokio::task::spawn_blocking(move || metrics::text(&rules.check(), &host.survey()));
            ("200 OK", told.await.map_err(io::Error::other)?)
        }
        ["GET", ..] => ("404 Not Found", "there is /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "there is GET /metrics\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    timeout(PATIENCE, caller.write_all((head + &body).as_bytes())).await??;
    caller.shutdown().await
}

/// The request's first line. The rest is read, so that closing the connection does not reset it, and means nothing.
async fn request(caller: &mut TcpStream) -> io::Result<String> {
    let mut text = Vec::new();
    let mut part = [0; 1024];
    while !text.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = caller.read(&mut part).await?;
        if length == 0 || text.len() + length > MAX_REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        text.extend_from_slice(&part[..length]);
    }
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().next().unwrap_or_default().to_owned())
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

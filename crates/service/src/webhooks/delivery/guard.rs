//! Where a delivery may go, asked of the address that is really connected to.
//!
//! A name is resolved here and nowhere else, for each connection anew, and the connection is made to the
//! very addresses that were judged: a name that changes its mind in between gains nothing by it. An address
//! that is written out never comes to a resolver, so it is judged before.

use crate::webhooks::address::Reach;
use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Why nothing is sent to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not a public one.
    #[error("the address is not public")]
    NotPublic,
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// It is not encrypted.
    #[error("only https is sent to")]
    Scheme,
}

/// How names become addresses.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// A resolver that gives only addresses within reach.
pub struct Guard {
    reach: Reach,
    lookup: Lookup,
}

impl Guard {
    /// One over the system's resolver.
    #[must_use]
    pub fn new(reach: Reach) -> Self {
        Self::over(reach, Arc::new(|name| Box::pin(system(name))))
    }

    /// One over that resolver.
    #[must_use]
    pub fn over(reach: Reach, lookup: Lookup) -> Self {
        Self { reach, lookup }
    }
}

async fn system(name: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect())
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, reach) = ((self.lookup)(name.as_str().to_owned()), self.reach.clone());
        Box::pin(async move {
            let found = found.await?;
            if found.is_empty() {
                return Err(Refusal::NoAddress.into());
            }
            let within: Vec<IpAddr> = found.into_iter().filter(|address| reach.covers(*address)).collect();
            if within.is_empty() {
                return Err(Refusal::NotPublic.into());
            }
            Ok(Box::new(within.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// Judges what a URL says of itself.
///
/// # Errors
/// [`Refusal`].
pub fn judge(url: &Url, reach: &Reach) -> Result<(), Refusal> {
    if url.scheme() != "https" && !(url.scheme() == "http" && reach.everywhere) {
        return Err(Refusal::Scheme);
    }
    let host = url.host_str().ok_or(Refusal::NoAddress)?;
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match literal {
        Ok(address) if !reach.covers(address) => Err(Refusal::NotPublic),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    async fn resolved(reach: Reach, found: &[&str]) -> Result<Vec<String>, String> {
        let found: Vec<IpAddr> = found.iter().map(|text| text.parse().expect(text)).collect();
        let lookup: Lookup = Arc::new(move |_| {
            let found = found.clone();
            Box::pin(async move { Ok(found) })
        });
        let name: Name = "hooks.example.com".parse().expect("a name");
        match Guard::over(reach, lookup).resolve(name).await {
            Ok(given) => Ok(given.map(|address| address.ip().to_string()).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn a_name_leads_only_to_public_addresses() {
        let refused = Err("the address is not public".to_owned());
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            assert_eq!(resolved(Reach::default(), &[private]).await, refused, "{private}");
        }
        let both = resolved(Reach::default(), &["127.0.0.1", "8.8.8.8", "::1"]).await;
        assert_eq!(both, Ok(vec!["8.8.8.8".to_owned()]), "what is private among them is left out");
        assert_eq!(resolved(Reach::default(), &[]).await, Err("the name has no address".to_owned()));
        let desk = Reach { everywhere: true, networks: Vec::new() };
        assert_eq!(resolved(desk, &["127.0.0.1"]).await, Ok(vec!["127.0.0.1".to_owned()]));
    }

    #[tokio::test]
    async fn a_name_that_changes_its_mind_is_judged_each_time() {
        let answers = Arc::new(Mutex::new(vec!["127.0.0.1", "8.8.8.8"]));
        let lookup: Lookup = Arc::new(move |_| {
            let address = answers.lock().pop().and_then(|text| text.parse().ok());
            Box::pin(async move { Ok(address.into_iter().collect()) })
        });
        let guard = Guard::over(Reach::default(), lookup);
        let name = || "hooks.example.com".parse::<Name>().expect("a name");
        assert!(guard.resolve(name()).await.is_ok());
        assert!(guard.resolve(name()).await.is_err());
    }

    #[test]
    fn an_address_that_is_written_out_is_judged_however_it_is_written() {
        let judged = |url: &str| judge(&url.parse().expect(url), &Reach::default());
        for private in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://017700000001/",
            "https://0/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest/meta-data/",
            "https://１２７.0.0.1/",
        ] {
            assert_eq!(judged(private), Err(Refusal::NotPublic), "{private}");
        }
        assert_eq!(judged("https://8.8.8.8/"), Ok(()));
        assert_eq!(judged("https://hooks.example.com/"), Ok(()));
        assert_eq!(judged("http://hooks.example.com/"), Err(Refusal::Scheme));
        let desk = Reach { everywhere: true, networks: Vec::new() };
        assert_eq!(judge(&"http://127.0.0.1:9/".parse().expect("a URL"), &desk), Ok(()));
        assert_eq!(judge(&"ftp://127.0.0.1:9/".parse().expect("a URL"), &desk), Err(Refusal::Scheme));
    }
}

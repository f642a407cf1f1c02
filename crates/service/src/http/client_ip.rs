//! Who sent a request: the address of the client, behind the proxies that are trusted.
//!
//! What always holds: without `TRUSTED_PROXIES` it is the address at the other end of the connection,
//! whatever the request says. A header is read only where that address is a trusted proxy, and only
//! from its right end, which the trusted proxies wrote; what a client wrote stands further left. Addresses
//! of version 4 that come as version 6 (`::ffff:192.0.2.1`) are those of version 4.

use axum::http::HeaderMap;
use axum::http::header::FORWARDED;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// The most entries of `TRUSTED_PROXIES`.
const PROXIES_MAX: usize = 100;

/// The address at the other end of the connection; travels in the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// The proxies whose word on the client's address is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads addresses and networks parted by commas; nothing where one of them is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let networks = entries.map(network).collect::<Option<Vec<_>>>()?;
        (networks.len() <= PROXIES_MAX).then_some(Self(networks))
    }

    /// The client's address: the rightmost hop that is no trusted proxy, or the leftmost one where all
    /// are. Where the header cannot be read that far, it is the peer itself.
    #[must_use]
    pub fn client(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let peer = peer.0.to_canonical();
        if self.0.is_empty() || !self.trusts(peer) {
            return peer;
        }
        // `Forwarded` counts only where no proxy speaks the older language: one that writes either lets
        // the other pass as the client sent it.
        let client = if headers.contains_key("x-forwarded-for") {
            self.outermost(list(headers, "x-forwarded-for").map(hop))
        } else {
            self.outermost(list(headers, FORWARDED.as_str()).map(forwarded_for))
        };
        client.unwrap_or(peer)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Walks from the nearest hop outwards; an entry that cannot be read ends it without an answer.
    fn outermost(&self, hops: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let mut last = None;
        for hop in hops {
            let hop = hop?;
            if !self.trusts(hop) {
                return Some(hop);
            }
            last = Some(hop);
        }
        last
    }
}

/// The entries of a list header, over all its lines, from the right to the left.
fn list<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = Option<&'a str>> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    lines.into_iter().rev().flat_map(|line| match line.to_str() {
        Ok(text) => text.rsplit(',').map(|entry| Some(entry.trim())).collect::<Vec<_>>(),
        Err(_) => vec![None],
    })
}

/// An address as proxies write it: alone, in brackets, or with a port.
fn hop(entry: Option<&str>) -> Option<IpAddr> {
    let entry = entry?;
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().or_else(|_| entry.parse().map(|socket: SocketAddr| socket.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// The `for` of one element of a `Forwarded` header.
fn forwarded_for(element: Option<&str>) -> Option<IpAddr> {
    let mut pairs = element?.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    let value = value.trim();
    hop(Some(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)))
}

/// Reads a network, or a single address.
#[must_use]
pub fn network(entry: &str) -> Option<IpNet> {
    let network: IpNet = entry.parse().ok().or_else(|| entry.parse().ok().map(IpAddr::into))?;
    // A network of version 4 in the clothes of version 6 would never meet an address, which is undressed.
    let mapped = |v6: &ipnet::Ipv6Net| v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some();
    match network {
        IpNet::V6(v6) if mapped(&v6) => {
            let v4 = v6.addr().to_ipv4_mapped()?;
            ipnet::Ipv4Net::new(v4, v6.prefix_len() - 96).ok().map(IpNet::V4)
        }
        network => Some(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &str, peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        let trusted = TrustedProxies::parse(trusted).expect(trusted);
        trusted.client(Peer(peer.parse().expect("an address")), &map).to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let lie = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")];
        assert_eq!(client("", "203.0.113.5", &lie), "203.0.113.5");
        assert_eq!(client("10.0.0.0/8", "203.0.113.5", &lie), "203.0.113.5");
        assert_eq!(client("", "::ffff:203.0.113.5", &[]), "203.0.113.5");
    }

    #[test]
    fn the_rightmost_hop_that_is_no_proxy_is_the_client() {
        let seen = |header: &str| client("10.0.0.0/8, fd00::/8", "10.1.1.1", &[("x-forwarded-for", header)]);
        assert_eq!(seen("198.51.100.7"), "198.51.100.7");
        assert_eq!(seen("6.6.6.6, 198.51.100.7, 10.2.2.2,fd00::1"), "198.51.100.7");
        assert_eq!(seen("garbage, 198.51.100.7"), "198.51.100.7");
        assert_eq!(seen("198.51.100.7:4711"), "198.51.100.7");
        assert_eq!(seen("[2001:db8::7]:4711"), "2001:db8::7");
        assert_eq!(seen("::ffff:198.51.100.7, ::ffff:10.3.3.3"), "198.51.100.7");
        assert_eq!(seen("10.9.9.9, 10.2.2.2"), "10.9.9.9");
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.7")];
        assert_eq!(client("10.1.1.1", "10.1.1.1", &lines), "198.51.100.7");
        assert_eq!(client("::ffff:10.0.0.0/104", "::ffff:10.1.1.1", &lines), "198.51.100.7");
    }

    #[test]
    fn what_cannot_be_read_leaves_the_peer() {
        for header in ["", "garbage", "198.51.100.7, unknown", "198.51.100.7, ", "1.2.3", "_hidden", "[::1"] {
            assert_eq!(client("10.0.0.0/8", "10.1.1.1", &[("x-forwarded-for", header)]), "10.1.1.1");
        }
        assert_eq!(client("10.0.0.0/8", "10.1.1.1", &[]), "10.1.1.1");
        assert_eq!(client("10.0.0.0/8", "10.1.1.1", &[("forwarded", "for=unknown")]), "10.1.1.1");
    }

    #[test]
    fn the_standards_header_is_read_where_the_usual_one_is_absent() {
        let seen = |header: &str| client("10.0.0.0/8", "10.1.1.1", &[("forwarded", header)]);
        assert_eq!(seen("for=6.6.6.6, proto=https;For=198.51.100.7;by=10.1.1.1"), "198.51.100.7");
        assert_eq!(seen("for=\"[2001:db8::7]:4711\""), "2001:db8::7");
        let both = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "198.51.100.7")];
        assert_eq!(client("10.0.0.0/8", "10.1.1.1", &both), "198.51.100.7");
    }

    #[test]
    fn a_list_that_cannot_be_read_is_refused() {
        for text in ["10.0.0.0/33", "proxy.example.com", "10.0.0", "10.0.0.0/8 10.0.0.1"] {
            assert_eq!(TrustedProxies::parse(text), None, "{text}");
        }
        assert_eq!(TrustedProxies::parse(&"10.0.0.1,".repeat(101)), None);
        assert!(TrustedProxies::parse("10.0.0.1, 192.168.0.0/16 ,::1,").is_some());
    }
}

//! Which addresses a delivery may go to: the public ones, and those that the operator named.
//!
//! An endpoint's address is a stranger's word. Without this rule it could be used to reach what only this
//! machine can: its own ports, its neighbours, the cloud's metadata. What always holds: an address is judged
//! as it was resolved, and one of a network that is not listed as public is refused, however it is written.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(start: [u16; 3], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(start[0], start[1], start[2], 0, 0, 0, 0, 0), prefix)
}

/// What of IPv4 is not public: the networks of IANA's registry of special purposes (RFC 6890) that are
/// not reachable from everywhere, groups and what is reserved, and the one public address that is a cloud's own.
const REFUSED_V4: [Ipv4Net; 17] = [
    v4(0, 0, 0, 0, 8),          // this network, RFC 791
    v4(10, 0, 0, 0, 8),         // private, RFC 1918
    v4(100, 64, 0, 0, 10), // behind a carrier's translation, RFC 6598; 100.100.100.200 is Alibaba's metadata
    v4(127, 0, 0, 0, 8),   // loopback, RFC 1122
    v4(168, 63, 129, 16, 32), // what Azure answers its machines from
    v4(169, 254, 0, 0, 16), // link-local, RFC 3927; 169.254.169.254 is the metadata of most clouds
    v4(172, 16, 0, 0, 12), // private, RFC 1918
    v4(192, 0, 0, 0, 24),  // protocol assignments, RFC 6890; 192.0.0.192 is Oracle's metadata
    v4(192, 0, 2, 0, 24),  // documentation, RFC 5737
    v4(192, 88, 99, 0, 24), // relays of 6to4, RFC 7526
    v4(192, 168, 0, 0, 16), // private, RFC 1918
    v4(198, 18, 0, 0, 15), // benchmarks, RFC 2544
    v4(198, 51, 100, 0, 24), // documentation, RFC 5737
    v4(203, 0, 113, 0, 24), // documentation, RFC 5737
    v4(224, 0, 0, 0, 4),   // multicast, RFC 5771
    v4(240, 0, 0, 0, 4),   // reserved, RFC 1112
    v4(255, 255, 255, 255, 32), // broadcast, RFC 919
];

/// All of IPv6 that was given out for public use, RFC 4291. What lies outside is refused without a name: `::`, `::1`, IPv4 in the
/// clothes of IPv6 (`::/96`, `::ffff:0:0/96`), what translators turn into IPv4 (`64:ff9b::/96`, `64:ff9b:1::/48`), `100::/64`, `fc00::/7` with
/// `fd00:ec2::254`, `fe80::/10`, `fec0::/10`, `ff00::/8`.
const PUBLIC_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// What of it is not public: IANA's registry of special purposes again.
const REFUSED_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0, 0], 23), // protocol assignments, RFC 2928, with Teredo (2001::/32), which leads to IPv4
    v6([0x2001, 0xdb8, 0], 32), // documentation, RFC 3849
    v6([0x2002, 0, 0], 16), // 6to4, RFC 3056, which leads to IPv4
    v6([0x3fff, 0, 0], 20), // documentation, RFC 9637
];

/// Whether an address is out in the world, where everybody can reach it.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !REFUSED_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            PUBLIC_V6.contains(&address) && !REFUSED_V6.iter().any(|network| network.contains(&address))
        }
    }
}

/// How far deliveries reach: `WEBHOOK_ALLOW_PRIVATE` and `WEBHOOK_ALLOWED_NETWORKS`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Every address, and `http` beside `https`: for a desk.
    pub everywhere: bool,
    /// What is allowed beside the public addresses.
    pub networks: Vec<IpNet>,
}

impl Reach {
    /// Whether a delivery may go to an address.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        self.everywhere
            || is_public(address)
            || self.networks.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn the_world_is_public() {
        for good in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2001:200::1",
            "2a00:1450::1",
            "3ffe::1",
        ] {
            assert!(is_public(address(good)), "{good}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::808:808",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::a00:1",
            "100::1",
            "2001::7f00:1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
        ] {
            assert!(!is_public(address(bad)), "{bad}");
        }
    }

    #[test]
    fn an_operator_opens_what_it_names_and_no_more() {
        let network = |text: &str| text.parse::<IpNet>().expect(text);
        let reach = Reach { everywhere: false, networks: vec![network("10.1.0.0/16"), network("fd12::/16")] };
        for (to, covered) in [
            ("10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd12::7", true),
            ("::1", false),
            ("8.8.8.8", true),
            ("::ffff:10.1.2.3", false),
        ] {
            assert_eq!(reach.covers(address(to)), covered, "{to}");
        }
        assert!(Reach { everywhere: true, networks: Vec::new() }.covers(address("127.0.0.1")));
        assert!(!Reach::default().covers(address("127.0.0.1")));
    }
}

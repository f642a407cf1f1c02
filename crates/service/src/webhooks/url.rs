//! The address of an endpoint, as far as it can be judged before anybody is asked for its name.
//!
//! Names are judged when a delivery connects, by what they resolve to then. Here the forms are refused in which an address hides
//! what it is: the text must say what the parser understood.

use super::address::Reach;
use reqwest::Url;
use std::net::{IpAddr, Ipv6Addr};

/// The longest address, in characters.
pub const URL_MAX: usize = 2048;
/// The first port that is not one of the well-known ones, behind which other protocols listen.
const FREE_PORTS: u16 = 1024;

/// Takes the address of an endpoint; gives it as the parser writes it.
///
/// # Errors
/// The rule that it breaks.
pub fn check(text: &str, reach: &Reach) -> Result<Url, String> {
    if !(1..=URL_MAX).contains(&text.chars().count()) {
        return Err(format!("must be 1 to {URL_MAX} characters"));
    }
    // The parser drops or mends these, so the text would not say where it leads.
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err("must have no spaces, control characters or backslashes".to_owned());
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(|| scheme_rule(reach))?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "https" && !(scheme == "http" && reach.everywhere) {
        return Err(scheme_rule(reach));
    }
    // The parser passes over any number of slashes, and would find a host, and user-info, where nobody looked for them.
    if rest.starts_with('/') {
        return Err("must name a host right behind ://".to_owned());
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("must have no user-info; send credentials in `headers`".to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("must be an address: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must have no user-info; send credentials in `headers`".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must have no fragment".to_owned());
    }
    port(&url, reach)?;
    host(&url, authority, reach)?;
    if url.as_str().len() > URL_MAX {
        return Err(format!("must be 1 to {URL_MAX} characters once it is encoded"));
    }
    Ok(url)
}

fn scheme_rule(reach: &Reach) -> String {
    let schemes = if reach.everywhere { "https:// or http://" } else { "https://" };
    format!("must begin with {schemes}")
}

fn port(url: &Url, reach: &Reach) -> Result<(), String> {
    match url.port() {
        None => Ok(()),
        Some(0) => Err("must not have port 0".to_owned()),
        Some(port) if port < FREE_PORTS && !reach.everywhere => {
            Err(format!("must have port 443 or one from {FREE_PORTS} on, not {port}"))
        }
        Some(_) => Ok(()),
    }
}

fn host(url: &Url, authority: &str, reach: &Reach) -> Result<(), String> {
    let written = match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => authority,
    };
    let literal = |address: IpAddr| {
        if reach.covers(address) {
            Ok(())
        } else {
            Err(format!("must not lead to {address}, which is no public address"))
        }
    };
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("must name a host")?;
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| "must name a host")?;
        return literal(address.into());
    }
    match host.parse::<IpAddr>() {
        // A number, an octal or hexadecimal part, a missing part, a digit of another script.
        Ok(address) if written != host => {
            Err(format!("must write an IPv4 address as four decimal numbers, here {address}"))
        }
        Ok(address) => literal(address),
        Err(_) if written.contains('%') => Err("must write its host without % escapes".to_owned()),
        Err(_) => domain(host, reach),
    }
}

/// A name that is nobody's in the world is refused at once, unless something private may be reached by it.
fn domain(name: &str, reach: &Reach) -> Result<(), String> {
    let name = name.trim_end_matches('.');
    let private = !name.contains('.')
        || [".localhost", ".local", ".internal"].iter().any(|suffix| name.ends_with(suffix));
    if private && !reach.everywhere && reach.networks.is_empty() {
        return Err(format!("must name a public host, which {name:?} is not"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> Result<String, String> {
        check(text, &Reach::default()).map(|url| url.to_string())
    }

    #[test]
    fn addresses_of_the_world_are_taken_as_they_are() {
        for good in [
            "https://example.com/",
            "https://hooks.example.com:8443/a/b?token=x%20y",
            "https://8.8.8.8/hook",
            "https://[2606:4700:4700::1111]/hook",
            "https://example.com:1024/",
        ] {
            assert_eq!(taken(good).as_deref(), Ok(good), "{good}");
        }
        assert_eq!(taken("HTTPS://Example.COM:443").as_deref(), Ok("https://example.com/"));
        assert_eq!(taken("https://müller.example/").as_deref(), Ok("https://xn--mller-kva.example/"));
    }

    #[test]
    fn each_way_to_hide_where_it_leads_is_refused_by_its_rule() {
        let long = format!("https://example.com/{}", "a".repeat(URL_MAX));
        for (bad, rule) in [
            ("", "1 to 2048 characters"),
            (&*long, "1 to 2048 characters"),
            ("http://example.com/", "must begin with https://"),
            ("ftp://example.com/", "must begin with https://"),
            ("file:///etc/passwd", "must begin with https://"),
            ("https:example.com", "must begin with https://"),
            ("//example.com/", "must begin with https://"),
            ("example.com", "must begin with https://"),
            ("https://", "must be an address"),
            ("https:///path", "right behind ://"),
            ("https:////", "right behind ://"),
            ("https:///user:pass@example.com/", "right behind ://"),
            ("https:////%31%32%37.0.0.1/", "right behind ://"),
            ("https://?user@example.com/", "must be an address"),
            ("https://user:pass@example.com/", "user-info"),
            ("https://user@example.com/", "user-info"),
            ("https://@example.com/", "user-info"),
            ("https://example.com@127.0.0.1/", "user-info"),
            ("https://example.com\\@127.0.0.1/", "backslashes"),
            ("https://exam\tple.com/", "spaces"),
            (" https://example.com/", "spaces"),
            ("https://example.com/\n", "spaces"),
            ("https://example.com/#x", "fragment"),
            ("https://example.com:0/", "port 0"),
            ("https://example.com:22/", "port 443 or one from 1024"),
            ("https://example.com:99999/", "must be an address"),
            ("https://127.0.0.1/", "127.0.0.1, which is no public address"),
            ("https://0x7f.1/", "four decimal numbers, here 127.0.0.1"),
            ("https://0x7f000001/", "four decimal numbers, here 127.0.0.1"),
            ("https://2130706433/", "four decimal numbers, here 127.0.0.1"),
            ("https://017700000001/", "four decimal numbers, here 127.0.0.1"),
            ("https://0177.0.0.1/", "four decimal numbers, here 127.0.0.1"),
            ("https://127.1/", "four decimal numbers, here 127.0.0.1"),
            ("https://127.0.0.1./", "four decimal numbers, here 127.0.0.1"),
            ("https://%31%32%37.0.0.1/", "four decimal numbers, here 127.0.0.1"),
            ("https://１２７.0.0.1/", "four decimal numbers, here 127.0.0.1"),
            ("https://134744072/", "four decimal numbers, here 8.8.8.8"),
            ("https://ex%61mple.com/", "% escapes"),
            ("https://169.254.169.254/latest/meta-data", "no public address"),
            ("https://10.0.0.1:8080/", "no public address"),
            ("https://[::1]/", "no public address"),
            ("https://[::ffff:127.0.0.1]/", "no public address"),
            ("https://[::ffff:7f00:1]:8443/", "no public address"),
            ("https://[64:ff9b::7f00:1]/", "no public address"),
            ("https://[fd00:ec2::254]/", "no public address"),
            ("https://[fe80::1%25eth0]/", "must be an address"),
            ("https://localhost/", "public host"),
            ("https://LOCALHOST./", "public host"),
            ("https://a.localhost/", "public host"),
            ("https://metadata.google.internal/", "public host"),
            ("https://metadata/", "public host"),
        ] {
            let refused = taken(bad).expect_err(bad);
            assert!(refused.contains(rule), "{bad}: {refused}");
        }
    }

    #[test]
    fn what_the_operator_opens_is_taken() {
        let desk = Reach { everywhere: true, networks: Vec::new() };
        for good in ["http://localhost:9999/hook", "http://127.0.0.1:80/", "https://[::1]:8443/"] {
            assert!(check(good, &desk).is_ok(), "{good}");
        }
        assert!(check("http://2130706433/", &desk).is_err(), "odd forms are for nobody");
        let cluster = Reach { everywhere: false, networks: vec!["10.0.0.0/8".parse().expect("a network")] };
        assert!(check("https://receiver.default.svc.cluster.local/", &cluster).is_ok());
        assert!(check("https://10.1.2.3:8443/", &cluster).is_ok());
        assert!(check("https://192.168.0.1/", &cluster).is_err());
        assert!(check("http://10.1.2.3:8080/", &cluster).is_err());
    }
}

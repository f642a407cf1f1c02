//! Nobody is told on a private address: not by its number in any form, not by a name, not by way of a redirect.

use super::{HASTE, attempted, register};
use crate::PROGRAM;
use crate::caller::Caller;
use serde_json::{Value, json};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::process::Place;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

either_engine!(
    private_addresses_are_refused,
    names_of_private_addresses_are_refused,
    redirects_are_not_followed
);

/// Hosts that nobody may be told at: every network that is not public, in every form that a URL takes.
const HOSTS: &[&str] = &[
    // Loopback, and its odd forms.
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "0x7f.0x0.0x0.0x1",
    "127.0.0.1.",
    "%31%32%37.0.0.1",
    "①②⑦.⓪.⓪.①",
    "１２７.0.0.1",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    // This host, this network.
    "0.0.0.0",
    "0",
    "0.1.2.3",
    "[::]",
    // Private, shared, link-local; the clouds' metadata.
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.1",
    "100.64.0.1",
    "100.127.255.255",
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "169.254.170.2",
    "100.100.100.200",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fc00::1]",
    "[fdff:ffff::1]",
    "[fec0::1]",
    // For documents, for benchmarks, for protocols, for later, for many.
    "192.0.0.1",
    "192.0.0.170",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "198.18.0.1",
    "198.19.255.255",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "[2001:db8::1]",
    "[ff02::1]",
    "[ff0e::1]",
    "[100::1]",
    "[2001:2::1]",
    "[3fff::1]",
    // IPv4 within IPv6: mapped, compatible, translated, 6to4, Teredo.
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[::127.0.0.1]",
    "[::a00:1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
];

async fn private_addresses_are_refused(place: Place) {
    let service = PROGRAM.start(&place, &[]).await;
    let caller = Caller::new();
    let mut refused = Vec::new();
    for scheme in ["https", "http"] {
        for host in HOSTS {
            refused.push(format!("{scheme}://{host}/hook"));
            refused.push(format!("{scheme}://{host}:8443/hook"));
        }
    }
    refused.extend(
        [
            // Nor is a public name with somebody's name before it, another scheme, or what is no URL.
            "https://hooks.example.com@127.0.0.1/",
            "https://127.0.0.1@hooks.example.com/",
            "https://a:b@hooks.example.com/",
            "http://hooks.example.com/",
            "ftp://hooks.example.com/",
            "file:///etc/passwd",
            "gopher://hooks.example.com/",
            "javascript:alert(1)",
            "//hooks.example.com/",
            "hooks.example.com",
            "https://",
            "https:///hook",
            "",
            " ",
            "https://exa mple.com/",
            "https://hooks.example.com:0/",
            "https://hooks.example.com:99999/",
            "https://hooks.example.com/#fragment",
            "https://[::1",
            "https://[fe80::1%25eth0]/",
            "https://\u{0}/",
        ]
        .map(str::to_owned),
    );
    for url in &refused {
        let body = json!({"url": url, "event_types": ["credit.*"]});
        let answer = caller.post(service.address, "/api/v1/webhooks/endpoints", &body, None).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 400, "{url}: {}", answer.body);
        assert_eq!(answer.body["error_code"], "ValidationException", "{url}");
        assert_eq!(answer.body["detail"][0]["loc"], json!(["body", "url"]), "{url}: {}", answer.body);
    }
    // What is public is taken, and may not become what is not.
    let (id, _) = register(service.address, "https://hooks.example.com/in", &["alert.*"]).await;
    let path = format!("/api/v1/webhooks/endpoints/{id}");
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    for url in &refused {
        let request = http.patch(service.url(&path)).header("x-api-key", testkit::process::SERVICE_KEY);
        let answer = request.json(&json!({"url": url})).send().await.expect("an answer");
        assert_eq!(answer.status(), 400, "PATCH {url}");
    }
    let answer = caller.get(service.address, &path).await.expect("an answer");
    assert_eq!(answer.body["data"]["url"], "https://hooks.example.com/in");
    assert_eq!(service.stop().await.code, Some(0));
}

/// A listener that counts who comes, and answers each of them with these bytes.
struct Door {
    address: SocketAddr,
    came: Arc<AtomicUsize>,
}

impl Door {
    async fn open(answer: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let (address, came) = (listener.local_addr().expect("an address"), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&came);
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut chunk = [0; 16_384];
                    let _ = connection.read(&mut chunk).await;
                    let _ = connection.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { address, came }
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }
}

async fn names_of_private_addresses_are_refused(place: Place) {
    // Where nothing private may be reached, such names are refused by themselves; here they are only known when resolved.
    let service = PROGRAM.start(&place, &[("WEBHOOK_ALLOWED_NETWORKS", "203.0.113.0/24")]).await;
    let door = Door::open("HTTP/1.1 204 No Content\r\n\r\n".to_owned()).await;
    let mut names = vec!["localhost".to_owned()];
    // This machine's own name mostly leads to itself.
    let own = std::fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned();
    let local = |found: std::net::IpAddr| {
        found.is_loopback() || matches!(found, std::net::IpAddr::V4(v4) if v4.is_private())
    };
    if (own.as_str(), 443).to_socket_addrs().is_ok_and(|mut found| found.all(|found| local(found.ip()))) {
        names.push(own);
    }
    let caller = Caller::new();
    for name in names {
        let url = format!("https://{name}:{}/", door.address.port());
        let (id, _) = register(service.address, &url, &["user.*"]).await;
        caller.ensure(service.address, &name).await;
        let delivery = attempted(service.address, &id).await;
        let attempt = &delivery["attempts"][0];
        assert_eq!(attempt["status_code"], Value::Null, "{delivery}");
        assert_eq!(attempt["error"], "the address is not public", "{delivery}");
    }
    assert_eq!(door.came(), 0, "nobody came");
    assert_eq!(service.stop().await.code, Some(0));
}

async fn redirects_are_not_followed(place: Place) {
    let service = PROGRAM.start(&place, &HASTE).await;
    let inside = Door::open("HTTP/1.1 204 No Content\r\n\r\n".to_owned()).await;
    let mut ids = Vec::new();
    for (status, reason) in
        [(301, "Moved"), (302, "Found"), (303, "See Other"), (307, "Temporary"), (308, "Permanent")]
    {
        let location = format!("http://{}/secret", inside.address);
        let answer = format!(
            "HTTP/1.1 {status} {reason}\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let door = Door::open(answer).await;
        ids.push((
            status,
            register(service.address, &format!("http://{}/", door.address), &["user.*"]).await.0,
        ));
    }
    Caller::new().ensure(service.address, "one").await;
    for (status, id) in ids {
        let delivery = attempted(service.address, &id).await;
        assert_eq!(delivery["attempts"][0]["status_code"], json!(status), "{delivery}");
        assert_eq!(delivery["status"], "pending", "{delivery}");
    }
    assert_eq!(inside.came(), 0, "nobody was led there");
    assert_eq!(service.stop().await.code, Some(0));
}

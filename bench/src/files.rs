//! Files: megabytes per second in and out, beside the same bytes written by `dd` and served by nginx.
//!
//! Both sides of a ratio are driven by the same client in the same minute. A large file is as large as
//! a file may be; small ones are 100 KiB, many at a time.

use crate::Fallible;
use crate::server::{Server, free_port};
use crate::users::User;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LARGE: usize = 52_428_800;
const SMALL: usize = 100 * 1024;
/// How many large and small files are moved.
const LARGE_COUNT: usize = 8;
const SMALL_COUNT: usize = 2000;
/// How many small files are under way at a time.
const AT_ONCE: usize = 16;

/// One way of moving files.
#[derive(Debug, Clone, Serialize)]
pub struct Transfer {
    /// `sqlite` or `postgres`.
    pub engine: &'static str,
    /// What is moved, and which way.
    pub what: &'static str,
    /// Megabytes per second.
    pub mb_per_second: f64,
    /// Files per second.
    pub files_per_second: f64,
    /// What it is compared with, and its megabytes per second.
    pub beside: Option<(&'static str, f64)>,
    /// Peak resident memory of the service so far, in MiB.
    pub peak_mib: f64,
}

/// Moves files of `users` to and from a server.
pub async fn measure(engine: &'static str, server: &Server, users: &[User]) -> Fallible<Vec<Transfer>> {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build()?;
    let folder = server.storage.folder.join("beside");
    fs::create_dir_all(&folder)?;
    let mut nginx = Nginx::start(&folder)?;
    let mut found = Vec::new();
    for (size, count, at_once) in [(LARGE, LARGE_COUNT, 1), (SMALL, SMALL_COUNT, AT_ONCE)] {
        let large = size == LARGE;
        let bytes = picture(size);
        let file = folder.join(if large { "large.png" } else { "small.png" });
        fs::write(&file, &bytes)?;
        let form: bytes::Bytes = form(&bytes).into();
        let numbers: Vec<usize> = (0..count).collect();
        let begun = Instant::now();
        let urls: Vec<String> = stream::iter(&numbers)
            .map(|number| upload(&http, server, &users[number % users.len()], form.clone()))
            .buffered(at_once)
            .try_collect()
            .await?;
        let took = begun.elapsed();
        let row = |what, took: Duration, beside| -> Fallible<Transfer> {
            Ok(Transfer {
                engine,
                what,
                mb_per_second: rate(size * count, took),
                files_per_second: count as f64 / took.as_secs_f64(),
                beside,
                peak_mib: server.memory_kib("VmHWM")? as f64 / 1024.0,
            })
        };
        let (what, beside) = if large {
            ("upload, 50 MiB", ("dd conv=fsync", dd(&file, &folder, count)?))
        } else {
            ("upload, 100 KiB", ("write and fsync", write(&bytes, &folder, count)?))
        };
        found.push(row(what, took, Some(beside))?);
        let took = fetch_all(&http, &urls, at_once).await?;
        let beside = match nginx.as_mut() {
            Some(nginx) => {
                let url = nginx.url(&file);
                let theirs = fetch_all(&http, &vec![url; count], at_once).await?;
                Some(("nginx", rate(size * count, theirs)))
            }
            None => None,
        };
        found.push(row(if large { "download, 50 MiB" } else { "download, 100 KiB" }, took, beside)?);
    }
    Ok(found)
}

fn rate(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

/// A PNG of that size: the service looks at its blocks, not at its pixels.
fn picture(size: usize) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\0\0\0\0".to_vec();
    let end = b"\0\0\0\0IEND\0\0\0\0";
    let data = size - bytes.len() - 12 - end.len();
    bytes.extend(u32::try_from(data).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(b"tEXt");
    bytes.extend((0..data).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8));
    bytes.extend([0; 4]);
    bytes.extend(end);
    bytes
}

fn form(bytes: &[u8]) -> Vec<u8> {
    let mut form =
        b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n".to_vec();
    form.extend(bytes);
    form.extend(b"\r\n--b--\r\n");
    form
}

/// Uploads a file and gives its download address.
async fn upload(
    http: &reqwest::Client,
    server: &Server,
    user: &User,
    form: bytes::Bytes,
) -> Fallible<String> {
    let url = format!("http://{}{}", server.address, user.path("/files/upload"));
    let request =
        http.post(url).bearer_auth(&user.token).header("content-type", "multipart/form-data; boundary=b");
    let answer = request.body(form).send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    let body: Value = serde_json::from_str(&text)?;
    let url = body["data"]["download_url"].as_str();
    Ok(url.ok_or_else(|| format!("upload: {status}: {text}"))?.to_owned())
}

async fn fetch_all(http: &reqwest::Client, urls: &[String], at_once: usize) -> Fallible<Duration> {
    let begun = Instant::now();
    let fetch = |url: &String| {
        let request = http.get(url);
        async move {
            let mut answer = request.send().await?.error_for_status()?;
            while answer.chunk().await?.is_some() {}
            Fallible::Ok(())
        }
    };
    let _: Vec<()> = stream::iter(urls).map(fetch).buffered(at_once).try_collect().await?;
    Ok(begun.elapsed())
}

fn dd(file: &Path, folder: &Path, count: usize) -> Fallible<f64> {
    let begun = Instant::now();
    for number in 0..count {
        let (from, to) = (file.display(), folder.join(format!("dd-{number}")));
        let arguments =
            [format!("if={from}"), format!("of={}", to.display()), "bs=1M".into(), "conv=fsync".into()];
        let status = Command::new("dd").args(arguments).stderr(Stdio::null()).status()?;
        if !status.success() {
            return Err(format!("dd ended with {status}").into());
        }
    }
    Ok(rate(LARGE * count, begun.elapsed()))
}

fn write(bytes: &[u8], folder: &Path, count: usize) -> Fallible<f64> {
    let begun = Instant::now();
    for number in 0..count {
        let mut file = fs::File::create(folder.join(format!("small-{number}")))?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    Ok(rate(SMALL * count, begun.elapsed()))
}

/// A private nginx; killed when dropped.
struct Nginx {
    child: Child,
    port: u16,
}

impl Nginx {
    /// Serves a folder; nothing where nginx is not installed.
    fn start(folder: &Path) -> Fallible<Option<Self>> {
        let places =
            ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx", "/opt/homebrew/bin/nginx"];
        let Some(program) = places.iter().map(PathBuf::from).find(|place| place.exists()) else {
            eprintln!("nginx is not installed, so downloads are compared with nothing (Debian: nginx-light)");
            return Ok(None);
        };
        let (port, at) = (free_port()?, folder.display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {at}/{name};"))
            .collect();
        let text = format!(
            "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/nginx.log; events {{}} \
             http {{ access_log off; sendfile on; {temporary} server {{ listen 127.0.0.1:{port}; root {at}; }} }}"
        );
        let config = folder.join("nginx.conf");
        fs::write(&config, text)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(config).arg("-p").arg(folder).stdin(Stdio::null()).stderr(Stdio::null());
        let nginx = Self { child: command.spawn()?, port };
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > until {
                return Err("nginx does not start".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(nginx))
    }

    fn url(&self, file: &Path) -> String {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        format!("http://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

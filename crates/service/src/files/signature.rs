//! Addresses that carry their permission: what the service signs for files on its own disk.
//!
//! A signature covers a version, the method, the path and the end of its life, so none of them can
//! be changed. The key is random, made at the first start, and never leaves the data folder.

use super::name;
use crate::http::facts;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign, verify};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::Timestamp;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// How many bytes the key has.
const KEY_BYTES: usize = 32;

/// The key that signs addresses.
pub struct Signer(Key);

impl Signer {
    /// The key in that file, made when there is none.
    ///
    /// # Errors
    /// When it can be neither read nor made, or is no key.
    pub fn open(path: &Path) -> io::Result<Self> {
        match File::open(path) {
            Ok(file) => return Self::read(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut key = [0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| io::Error::other("no randomness"))?;
        // Written beside and linked into place: another process that starts now sees none or all of it.
        let beside = path.with_extension(format!("key.{}", facts::fresh_id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&beside)?;
        file.write_all(&key)?;
        file.sync_all()?;
        let linked = std::fs::hard_link(&beside, path);
        if linked.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
            // A file system without links; what starts at the same time reads what came last.
            std::fs::rename(&beside, path)?;
        } else {
            std::fs::remove_file(&beside)?;
        }
        Self::read(File::open(path)?)
    }

    fn read(mut file: File) -> io::Result<Self> {
        let mut key = Vec::new();
        file.read_to_end(&mut key)?;
        if key.len() == KEY_BYTES {
            Ok(Self(Key::new(HMAC_SHA256, &key)))
        } else {
            Err(io::Error::other("it holds no key of 32 bytes"))
        }
    }

    /// The path and query of an address that lets anybody use a method on a path until then.
    #[must_use]
    pub fn address(&self, method: &str, path: &str, until: Timestamp) -> String {
        let expires = until.seconds();
        let tag = sign(&self.0, &signed(method, path, expires));
        format!(
            "/files/{}?expires={expires}&signature={}",
            name::in_address(path),
            URL_SAFE_NO_PAD.encode(tag)
        )
    }

    /// Whether a signature is ours, for this method and path, and not yet over.
    #[must_use]
    pub fn allows(&self, method: &str, path: &str, expires: &str, signature: &str, now: Timestamp) -> bool {
        // One spelling per number: `+7` and `007` are not what was signed.
        let Some(at) = expires.parse::<i64>().ok().filter(|at| at.to_string() == expires) else {
            return false;
        };
        let Ok(tag) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        verify(&self.0, &signed(method, path, at), &tag).is_ok() && now.seconds() < at
    }
}

/// What is signed. The path comes last, for it may hold anything.
fn signed(method: &str, path: &str, expires: i64) -> Vec<u8> {
    format!("1\n{method}\n{expires}\n{path}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn an_address_works_for_what_was_signed_until_its_end() {
        let folder = tempfile_folder();
        let path = folder.join("files.key");
        let signer = Signer::open(&path).expect("a key");
        let address = signer.address("GET", "users/a|b/files/ü x.pdf", at(2000));
        let (path_part, query) = address.split_once('?').expect("a query");
        assert_eq!(path_part, "/files/users/a%7Cb/files/%C3%BC%20x.pdf");
        let (expires, signature) = query.split_once('&').expect("two fields");
        let expires = expires.strip_prefix("expires=").expect("a field");
        let signature = signature.strip_prefix("signature=").expect("a field");
        let file = "users/a|b/files/ü x.pdf";
        // Another start finds the same key.
        let signer = Signer::open(&path).expect("the key");
        assert!(signer.allows("GET", file, expires, signature, at(1999)));
        assert!(!signer.allows("GET", file, expires, signature, at(2000)));
        assert!(!signer.allows("PUT", file, expires, signature, at(1)));
        assert!(!signer.allows("GET", "users/a_b/files/ü x.pdf", expires, signature, at(1)));
        for wrong in ["2001", "02000", "+2000", "", "x", " 2000"] {
            assert!(!signer.allows("GET", file, wrong, signature, at(1)), "{wrong}");
        }
        for at_place in 0..signature.len() {
            let mut changed = signature.to_owned();
            let other = if &changed[at_place..=at_place] == "A" { "B" } else { "A" };
            changed.replace_range(at_place..=at_place, other);
            assert!(!signer.allows("GET", file, expires, &changed, at(1)), "{at_place}");
        }
        for wrong in ["", "AAAA", &format!("{signature}A"), &format!("{signature}=")] {
            assert!(!signer.allows("GET", file, expires, wrong, at(1)), "{wrong}");
        }
        std::fs::remove_dir_all(folder).expect("it goes");
    }

    fn tempfile_folder() -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("us-signature-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }
}

//! Names of files: what is kept of a client's name, and the path that a file gets.
//!
//! A client's name is never part of a path as it came: [`stem`] leaves letters, digits, `-`, `_` and
//! `.` of it. Pure.

use super::kind::Kind;
use kernel::{ExternalId, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use unicode_normalization::UnicodeNormalization as _;

/// The longest name that is kept for downloads, in characters.
pub const NAME_MAX: usize = 255;
/// The longest stem of a path, in characters and in bytes; file systems take 255 bytes in all.
const STEM_MAX: (usize, usize) = (100, 150);
/// What of a path may stand in an address as it is.
const IN_ADDRESS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What RFC 5987 lets stand as it is in `filename*`.
const IN_HEADER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The client's name without folders and control characters; `file` when nothing is left.
#[must_use]
pub fn kept(given: &str) -> String {
    // Browsers write a quote and line breaks of a name so.
    let given = given.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n");
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    // Characters that turn the direction of writing make `exe.pdf` look like `fdp.exe` and back.
    let hidden = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let clean: String = last.nfc().filter(|c| !hidden(*c)).take(NAME_MAX).collect();
    let clean = clean.trim();
    if clean.is_empty() || clean.chars().all(|c| c == '.') { "file".to_owned() } else { clean.to_owned() }
}

/// What of a name stands in a path: no extension, and nothing that a file system or an address
/// treats as special.
#[must_use]
pub fn stem(name: &str) -> String {
    let without = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let (mut clean, mut count) = (String::new(), 0);
    for c in without.trim_start_matches('.').nfc() {
        let c = if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
        if count == STEM_MAX.0 || clean.len() + c.len_utf8() > STEM_MAX.1 {
            break;
        }
        clean.push(c);
        count += 1;
    }
    if clean.is_empty() { "file".to_owned() } else { clean }
}

/// What follows the user in a path: `files/2025/07/document_20250726070000_1a2b3c4d.pdf`.
///
/// `unique` are eight hex digits, which keep two files of one name and second apart.
#[must_use]
pub fn path(name: &str, kind: Kind, now: Timestamp, unique: &str) -> String {
    // `2025-07-26T07:00:00.000000Z`
    let text = now.to_string();
    let (year, month) = (&text[..4], &text[5..7]);
    let digits: String = text[..19].chars().filter(char::is_ascii_digit).collect();
    format!("files/{year}/{month}/{}_{digits}_{unique}.{}", stem(name), kind.extension())
}

/// The public path of a user's file.
#[must_use]
pub fn public(user: &ExternalId, path: &str) -> String {
    format!("users/{user}/{path}")
}

/// Splits a public path into the user's id and the rest, which begins with `files/`.
#[must_use]
pub fn split(public: &str) -> Option<(&str, &str)> {
    let (user, path) = public.strip_prefix("users/")?.split_once('/')?;
    path.starts_with("files/").then_some((user, path))
}

/// A path as it stands in an address.
#[must_use]
pub fn in_address(path: &str) -> String {
    utf8_percent_encode(path, IN_ADDRESS).to_string()
}

/// `Content-Disposition` of a download (RFC 6266): the name in ASCII for old clients, and as it is.
#[must_use]
pub fn disposition(name: &str) -> String {
    let ascii = |c: char| {
        let plain = c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%' | '/' | ';');
        if plain || c == ' ' { c } else { '_' }
    };
    let plain: String = name.chars().map(ascii).collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(name, IN_HEADER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_name_is_special_in_a_path() {
        for (given, name, stem_is) in [
            ("document.pdf", "document.pdf", "document"),
            ("Übersicht 2025.final.PDF", "Übersicht 2025.final.PDF", "Übersicht_2025.final"),
            ("你好.txt", "你好.txt", "你好"),
            ("../../etc/passwd", "passwd", "passwd"),
            ("..\\..\\windows\\system.ini", "system.ini", "system"),
            ("/", "file", "file"),
            ("", "file", "file"),
            ("...", "file", "file"),
            (".pdf", ".pdf", "file"),
            (".hidden.pdf", ".hidden.pdf", "hidden"),
            ("a\0b\r\nc.pdf", "abc.pdf", "abc"),
            ("CON", "CON", "CON"),
            ("a|b#c+d%2e?e*f.pdf", "a|b#c+d%2e?e*f.pdf", "a_b_c_d_2e_e_f"),
            ("fdp\u{202e}exe.pdf", "fdpexe.pdf", "fdpexe"),
            ("cafe\u{301}.png", "café.png", "café"),
        ] {
            let kept = kept(given);
            assert_eq!((kept.as_str(), stem(&kept).as_str()), (name, stem_is), "{given:?}");
        }
    }

    #[test]
    fn long_names_fit_every_file_system() {
        for long in ["x".repeat(300), "é".repeat(300), "🦀你".repeat(150)] {
            let kept = kept(&format!("{long}.pdf"));
            assert!(kept.chars().count() <= NAME_MAX);
            assert!(stem(&kept).len() <= STEM_MAX.1 && stem(&kept).chars().count() <= STEM_MAX.0);
        }
    }

    #[test]
    fn the_path_is_as_documented() {
        let at = "2025-07-26T07:00:00Z".parse().expect("an instant");
        let path = path("document.exe", Kind::Pdf, at, "1a2b3c4d");
        assert_eq!(path, "files/2025/07/document_20250726070000_1a2b3c4d.pdf");
        let user = "auth0|123456789".parse().expect("an id");
        let public = public(&user, &path);
        assert_eq!(split(&public), Some(("auth0|123456789", path.as_str())));
        assert_eq!(in_address(&public), format!("users/auth0%7C123456789/{path}"));
        assert_eq!(split("users/x/other/y"), None);
    }

    #[test]
    fn a_download_has_its_name_in_both_spellings() {
        assert_eq!(disposition("a.pdf"), "attachment; filename=\"a.pdf\"; filename*=UTF-8''a.pdf");
        assert_eq!(
            disposition("naïve \"x\"; y.pdf"),
            "attachment; filename=\"na_ve _x__ y.pdf\"; filename*=UTF-8''na%C3%AFve%20%22x%22%3B%20y.pdf"
        );
    }
}

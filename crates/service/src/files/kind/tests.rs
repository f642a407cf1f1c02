use super::*;
use std::io::Cursor;
use testkit::files;

fn detected(bytes: &[u8], name: &str) -> Result<Kind, String> {
    detect(Cursor::new(bytes), name).map_err(|error| error.to_string())
}

#[test]
fn every_accepted_kind_is_told_by_its_bytes() {
    for (name, bytes, media_type) in files::each() {
        assert_eq!(detected(&bytes, name).map(Kind::media_type), Ok(media_type), "{name}");
        let promised = Kind::promised(name).map(Kind::media_type);
        assert_eq!(promised, Some(media_type));
        if !media_type.starts_with("text/") {
            assert_eq!(detected(&bytes, "x.exe").map(Kind::media_type), Ok(media_type), "whatever its name");
        }
    }
}

#[test]
fn nothing_else_is_accepted_whatever_it_is_called() {
    for (what, bytes) in files::refused() {
        for name in ["a.pdf", "a.csv", "a.txt", "a.json", "a.png", "a.xlsx", "a"] {
            assert!(detected(&bytes, name).is_err(), "{what} called {name}: {:?}", detected(&bytes, name));
        }
    }
}

#[test]
fn cut_off_anywhere_a_binary_file_is_refused() {
    for (name, bytes, media_type) in files::each() {
        // Half a text is a text, and the old workbook's last sector is room that nobody reads.
        if media_type.starts_with("text/") || name.ends_with(".json") || name.ends_with(".xls") {
            continue;
        }
        let enough = if name == "a.pdf" { bytes.len() - 1 } else { bytes.len() };
        for length in 1..enough {
            let found = detected(&bytes[..length], name);
            assert!(!matches!(found, Ok(kind) if kind.media_type() == media_type), "{name} cut at {length}");
        }
    }
}

#[test]
fn the_name_chooses_only_between_readings_of_the_same_text() {
    assert_eq!(detected(b"a,b\n1,2\n", "x"), Ok(Kind::Csv));
    assert_eq!(detected(b"a;b\n1;2\n", "x.pdf"), Ok(Kind::Csv));
    assert_eq!(detected(b"a,b\n1,2\n", "x.txt"), Ok(Kind::Text));
    assert_eq!(detected(b"no table\n", "x.csv"), Ok(Kind::Csv));
    assert_eq!(detected(b"a,\"b,c\"\n1,2\n", "x"), Ok(Kind::Csv));
    assert_eq!(detected(b"Hello, you\nand I\n", "x"), Ok(Kind::Text));
    assert_eq!(detected(b"[1]", "x.txt"), Ok(Kind::Json));
    assert_eq!(detected(b"\xef\xbb\xbf {\"a\":1}\n", "x"), Ok(Kind::Json));
    assert_eq!(detected(b"{\"a\":1", "x.json"), Ok(Kind::Text));
    assert_eq!(detected(b"7", "x.json"), Ok(Kind::Text));
    assert_eq!(detected("[".repeat(128).as_bytes(), "x"), Ok(Kind::Text));
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(detected(nested(128).as_bytes(), "x"), Ok(Kind::Json));
    assert_eq!(detected(nested(129).as_bytes(), "x"), Ok(Kind::Text));
}

#[test]
fn characters_that_lie_across_reads_are_whole() {
    for shift in 0..4 {
        let text = format!("{}{}", "x".repeat(shift), "é你🦀".repeat(20_000));
        assert_eq!(detected(text.as_bytes(), "x"), Ok(Kind::Text), "{shift}");
    }
}

#[test]
fn what_cameras_put_behind_a_picture_is_known() {
    let twice = [files::jpeg(), files::jpeg()].concat();
    assert_eq!(detected(&twice, "x"), Ok(Kind::Jpeg));
    let camera = |data: &[u8], directory: &[u8]| {
        let length = (directory.len() as u32).to_le_bytes();
        detected(&[&files::jpeg(), data, directory, &length, b"SEFT"].concat(), "x")
    };
    let entry = b"\0\0\x01\x0a\x04\0\0\0namedata";
    let directory = b"SEFH\x6b\0\0\0\x01\0\0\0\0\0\x01\x0a\x10\0\0\0\x10\0\0\0";
    assert_eq!(camera(entry, directory), Ok(Kind::Jpeg));
    assert!(camera(b"<script>alert(1)</script>", b"SEFH\x6b\0\0\0\0\0\0\0").is_err(), "described by nothing");
    assert!(camera(&[b"MZ", &entry[..]].concat(), directory).is_err(), "in front of the entries");
    assert!(camera(&[&entry[..], b"MZ"].concat(), directory).is_err(), "behind the entries");
    assert!(camera(b"<script>alert(1)", directory).is_err(), "not what the directory says");
    assert!(camera(entry, &[&directory[..], b"MZ"].concat()).is_err(), "a longer directory");
    assert!(camera(entry, b"____\x6b\0\0\0\0\0\0\0").is_err());
}

#[test]
fn nothing_hides_the_beginning_of_a_text() {
    let spaces = " ".repeat(5000);
    let many = "\u{a0}\u{200b}".repeat(50_000);
    for blank in
        ["", &spaces, "\u{feff}\u{feff}", "\u{a0}", "\u{200b}", "\u{2028}\u{2060}\u{3000}\u{ad}", &many]
    {
        for active in
            ["<html>", "<svg onload=alert(1)>", "<!doctype html>", "#!/bin/sh\n", "{\\rtf1 x}", "%!PS-Adobe"]
        {
            for name in ["x", "x.txt", "x.csv", "x.json"] {
                let text = format!("{blank}{active}");
                assert!(detected(text.as_bytes(), name).is_err(), "{active} after {} bytes", blank.len());
            }
        }
        assert_eq!(detected(format!("{blank}x<script>").as_bytes(), "x"), Ok(Kind::Text));
    }
    // The sign itself may lie across two reads.
    for spaces in 65_530..65_540 {
        assert!(detected(format!("{}<html>", " ".repeat(spaces)).as_bytes(), "x").is_err(), "{spaces}");
    }
    assert_eq!(detected(format!("{spaces}{{\"a\":[1]}}").as_bytes(), "x"), Ok(Kind::Json));
    assert_eq!(detected(format!("\u{feff}{spaces}[1]").as_bytes(), "x.txt"), Ok(Kind::Json));
}

mod workbooks;

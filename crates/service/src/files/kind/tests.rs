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
    let mut directory = files::jpeg();
    directory.extend(b"dataSEFH\x6b\0\0\0\0\0\0\0\x0c\0\0\0SEFT");
    assert_eq!(detected(&directory, "x"), Ok(Kind::Jpeg));
    let mut wrong = files::jpeg();
    wrong.extend(b"data____\x6b\0\0\0\0\0\0\0\x0c\0\0\0SEFT");
    assert!(detected(&wrong, "x").is_err());
}

//! Workbooks that are something else as well.

use super::*;
use std::io::Write as _;

fn has_workbook_with(name: &str) -> bool {
    detected(&files::xlsx_with(&[(name, b"x")]), "x.xlsx").is_ok()
}

#[test]
fn only_parts_that_a_workbook_has_are_accepted() {
    for name in
        ["xl/printerSettings/printerSettings1.bin", "_rels/.rels", "docProps/app.xml", "XL/media/A.PNG"]
    {
        assert!(has_workbook_with(name), "{name}");
    }
    for name in [
        "run.exe",
        "xl/run.exe",
        "xl/run.exe.",
        "xl/run.exe ",
        "xl/run.ExE. .",
        "xl\\run.exe",
        "xl/a.hta",
        "xl/a.html",
        "xl/a.svg",
        "xl/a",
        "xl/a.bin",
        "xl/vbaProject.bin",
        "xl/VBAPROJECT.BIN. ",
        "xl/macrosheets/sheet1.xml",
        "xl/macrosheets./sheet1.xml",
        "xl/embeddings/a.xml",
        "xl/embeddings /oleObject1.bin",
        "META-INF/a.xml",
        "word/document.xml",
        "/xl/a.xml",
        "xl//a.xml",
        "xl/.. /a.xml",
        "xl/a.exe:b.xml",
        "xl/macro%73heets/a.xml",
    ] {
        assert!(!has_workbook_with(name), "{name}");
    }
}

#[test]
fn every_byte_of_a_workbook_is_accounted_for() {
    let good = files::xlsx();
    let end = good.len() - 22;
    let begin = u32::from_le_bytes(good[end + 16..end + 20].try_into().unwrap()) as usize;
    // Bytes between the last part and the directory, which the end record passes over.
    let mut gap = good[..begin].to_vec();
    gap.extend(b"MZ hidden");
    gap.extend(&good[begin..]);
    let at = gap.len() - 6;
    gap[at..at + 4].copy_from_slice(&(begin as u32 + 9).to_le_bytes());
    assert!(detected(&gap, "x.xlsx").is_err(), "a gap");
    let mut comment = good.clone();
    comment[end + 20] = 22;
    comment.extend(&good[end..]);
    assert!(detected(&comment, "x.xlsx").is_err(), "a comment");
    let mut renamed = good.clone();
    renamed[31] = b'X';
    assert!(detected(&renamed, "x.xlsx").is_err(), "another name in the part's own header");
    let mut longer = good.clone();
    longer[18] += 1;
    assert!(detected(&longer, "x.xlsx").is_err(), "another size in the part's own header");
    let mut first = good.clone();
    first[begin + 42] = 1;
    assert!(detected(&first, "x.xlsx").is_err(), "the first part elsewhere");
}

#[test]
fn sizes_may_be_described_behind_a_part() {
    let good = files::xlsx();
    let begin = good.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    // The last part: its sizes are zero in front, and stand behind it.
    let last = good.windows(4).rposition(|window| window == b"PK\x03\x04").unwrap();
    let entry = good.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    for (mark, wrong) in
        [(&b"PK\x07\x08"[..], false), (b"", false), (b"PK\x07\x08", true), (b"MZ\x07\x08", true)]
    {
        let mut bytes = good[..begin].to_vec();
        bytes[last + 6] |= 8;
        bytes[last + 18..last + 26].fill(0);
        let mut descriptor = [mark, &good[entry + 16..entry + 28]].concat();
        descriptor[4] ^= u8::from(wrong);
        bytes.extend(&descriptor);
        bytes.extend(&good[begin..]);
        bytes[entry + descriptor.len() + 8] |= 8;
        let at = bytes.len() - 6;
        bytes[at..at + 4].copy_from_slice(&((begin + descriptor.len()) as u32).to_le_bytes());
        assert_eq!(detected(&bytes, "x.xlsx").is_err(), wrong, "{mark:?}");
    }
}

/// A compound file with one workbook stream of these records, padded to that size.
fn xls_of(records: &[u8], size: usize, version: cfb::Version) -> Vec<u8> {
    let mut file = cfb::CompoundFile::create_with_version(version, Cursor::new(Vec::new())).unwrap();
    let mut data = records.to_vec();
    data.resize(size.max(records.len()), 0);
    file.create_stream("/Workbook").unwrap().write_all(&data).unwrap();
    file.flush().unwrap();
    file.into_inner().into_inner()
}

fn sheet(kind: u8) -> Vec<u8> {
    let globals = [&b"\x09\x08\x04\0\0\x06\x05\0"[..], b"\x42\0\x02\0\xe4\x04"].concat();
    [&globals[..], b"\x85\0\x09\0\0\0\0\0\0", &[kind], b"\x01\0S", b"\x0a\0\0\0"].concat()
}

#[test]
fn sheets_of_macros_are_refused_in_old_workbooks() {
    for version in [cfb::Version::V3, cfb::Version::V4] {
        for size in [0, 600, 4095, 4096, 200_000] {
            for (kind, accepted) in [(0, true), (2, true), (1, false), (6, false), (9, false)] {
                let found = detected(&xls_of(&sheet(kind), size, version), "x.xls");
                assert_eq!(found.is_ok(), accepted, "{kind} in {size} bytes: {found:?}");
            }
        }
    }
    // Records in front take the sheet across many sectors.
    for (many, kind, accepted) in [(300, 1, false), (300, 0, true), (30_000, 1, false), (30_000, 0, true)] {
        let records = [b"\x42\0\x03\0\xe4\x04\0".repeat(many), sheet(kind)].concat();
        let found = detected(&xls_of(&records, 0, cfb::Version::V3), "x.xls");
        assert_eq!(found.is_ok(), accepted, "{many}: {found:?}");
    }
    let encrypted = [&b"\x09\x08\x04\0\0\x06\x05\0\x2f\0\x02\0xx"[..], &sheet(0)].concat();
    assert!(detected(&xls_of(&encrypted, 0, cfb::Version::V3), "x.xls").is_err());
}

#[test]
fn nothing_follows_an_old_workbook() {
    for size in [600, 5000, 100_000] {
        let good = xls_of(&sheet(0), size, cfb::Version::V3);
        assert_eq!(detected(&good, "x"), Ok(Kind::Xls));
        for tail in [512, 513, 4096, 100_000] {
            let mut bytes = good.clone();
            bytes.extend(b"MZ");
            bytes.resize(good.len() + tail, b'x');
            assert!(detected(&bytes, "x").is_err(), "{tail} bytes behind {size}");
        }
    }
}

#[test]
fn tables_of_a_compound_file_are_bounded() {
    let good = xls_of(&sheet(0), 5000, cfb::Version::V3);
    for (what, at) in
        [("FAT", 44), ("small table", 64), ("directory", 48), ("list", 76), ("small stream", 56)]
    {
        for value in [0x7fff_ffff_u32, u32::MAX, 0x0010_0000] {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(detected(&bytes, "x").is_err(), "{what} of {value}");
        }
    }
    let mut many = cfb::CompoundFile::create_with_version(cfb::Version::V3, Cursor::new(Vec::new())).unwrap();
    many.create_stream("/Workbook").unwrap().write_all(&sheet(0)).unwrap();
    for number in 0..1000 {
        many.create_storage(format!("/s{number}")).unwrap();
    }
    many.flush().unwrap();
    assert_eq!(detected(&many.into_inner().into_inner(), "x"), Ok(Kind::Xls), "a large directory");
    // A directory that leads back to itself never ends.
    let first = u32::from_le_bytes(good[48..52].try_into().unwrap());
    let table = (u32::from_le_bytes(good[76..80].try_into().unwrap()) as usize + 1) * 512;
    let mut endless = good;
    endless[table + first as usize * 4..][..4].copy_from_slice(&first.to_le_bytes());
    assert!(detected(&endless, "x").is_err());
}

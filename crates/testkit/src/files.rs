//! Small files of every kind that the service accepts, made byte by byte.

use std::io::{Cursor, Write as _};

/// A picture of one pixel.
#[must_use]
pub fn png() -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    // Check sums are not looked at, by the service or by most viewers of broken files.
    let mut chunk = |name: &[u8; 4], data: &[u8]| {
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(name);
        bytes.extend(data);
        bytes.extend([0; 4]);
    };
    chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0]);
    chunk(b"IDAT", &[0x78, 0x9c, 0x63, 0, 0, 0, 2, 0, 1]);
    chunk(b"IEND", &[]);
    bytes
}

/// A PNG of exactly that many bytes, 69 at least.
///
/// # Panics
/// When it is to be smaller.
#[must_use]
pub fn png_of(size: usize) -> Vec<u8> {
    let small = png();
    let data = size.checked_sub(small.len() + 12).expect("a size that a picture can have");
    let end = small.len() - 12;
    let mut bytes = small[..end].to_vec();
    bytes.extend((data as u32).to_be_bytes());
    bytes.extend(b"tEXt");
    // Bytes that differ from place to place, so that a part out of order is noticed.
    bytes.extend((0..data).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8));
    bytes.extend([0; 4]);
    bytes.extend(&small[end..]);
    bytes
}

/// A picture: a frame, a scan, the end.
#[must_use]
pub fn jpeg() -> Vec<u8> {
    let mut bytes = b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0".to_vec();
    bytes.extend(b"\xff\xc0\x00\x0b\x08\0\x01\0\x01\x01\x01\x11\0");
    bytes.extend(b"\xff\xda\x00\x08\x01\x01\0\0\x3f\0\x12\xff\x00\x34\xff\xd0\x56\xff\xd9");
    bytes
}

/// A picture of one pixel.
#[must_use]
pub fn gif() -> Vec<u8> {
    let mut bytes = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff".to_vec();
    bytes.extend(b"\x21\xf9\x04\0\0\0\0\0");
    bytes.extend(b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0\x3b");
    bytes
}

/// A lossless picture.
#[must_use]
pub fn webp() -> Vec<u8> {
    let data = b"\x2f\0\0\0\0\x07\x10\x11\x11\x88\x88\xfe\x07";
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((4 + 8 + data.len() as u32 + 1).to_le_bytes());
    bytes.extend(b"WEBPVP8L");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes.push(0);
    bytes
}

/// A document without a page.
#[must_use]
pub fn pdf() -> Vec<u8> {
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n\
      trailer<</Root 1 0 R>>\nstartxref\n0\n%%EOF\n"
        .to_vec()
}

/// An archive of stored parts.
#[must_use]
pub fn zip(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in parts {
        let at = bytes.len() as u32;
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend((data.len() as u32).to_le_bytes());
        common.extend((data.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(name.as_bytes());
        bytes.extend(*data);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (begin, length) = (bytes.len() as u32, directory.len() as u32);
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend((parts.len() as u16).to_le_bytes());
    bytes.extend((parts.len() as u16).to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(begin.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// A workbook, with further parts.
#[must_use]
pub fn xlsx_with(more: &[(&str, &[u8])]) -> Vec<u8> {
    let parts: [(&str, &[u8]); 2] =
        [("[Content_Types].xml", b"<Types/>"), ("xl/workbook.xml", b"<workbook/>")];
    zip(&[&parts[..], more].concat())
}

/// A workbook.
#[must_use]
pub fn xlsx() -> Vec<u8> {
    xlsx_with(&[("xl/worksheets/sheet1.xml", b"<worksheet/>")])
}

/// A compound file with these streams.
///
/// # Panics
/// When a name cannot be one.
#[must_use]
pub fn compound(streams: &[&str]) -> Vec<u8> {
    let mut file = cfb::CompoundFile::create(Cursor::new(Vec::new())).expect("a compound file");
    for name in streams {
        if let Some((storage, _)) = name.rsplit_once('/').filter(|(storage, _)| !storage.is_empty()) {
            file.create_storage_all(storage).expect("a storage");
        }
        let mut stream = file.create_stream(name).expect("a stream");
        stream.write_all(&[9; 600]).expect("its bytes");
    }
    file.flush().expect("it is whole");
    file.into_inner().into_inner()
}

/// A workbook of the old format.
#[must_use]
pub fn xls() -> Vec<u8> {
    compound(&["/Workbook"])
}

/// One of each kind: its file name, its bytes, and the media type that they have.
#[must_use]
pub fn each() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let workbook = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
    vec![
        ("a.pdf", pdf(), "application/pdf"),
        ("a.csv", b"name,credits\nalice,7\n".to_vec(), "text/csv"),
        ("a.xls", xls(), "application/vnd.ms-excel"),
        ("a.xlsx", xlsx(), workbook),
        ("a.jpg", jpeg(), "image/jpeg"),
        ("a.png", png(), "image/png"),
        ("a.gif", gif(), "image/gif"),
        ("a.webp", webp(), "image/webp"),
        ("a.txt", "plain, and plain \u{e9}\u{4f60}\u{597d}\n".as_bytes().to_vec(), "text/plain"),
        ("a.json", br#"{"a":[1,2,{"b":null}]}"#.to_vec(), "application/json"),
    ]
}

/// What must be refused whatever it is called: what it is, and its bytes.
#[must_use]
pub fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let with = |mut bytes: Vec<u8>, more: &[u8]| {
        bytes.extend(more);
        bytes
    };
    let script = b"<script>alert(1)</script>";
    let archive = zip(&[("evil.js", script)]);
    vec![
        ("a Windows program", with(b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff".to_vec(), &[0; 300])),
        ("an ELF program", with(b"\x7fELF\x02\x01\x01".to_vec(), &[0; 300])),
        ("a Mach-O program", with(b"\xcf\xfa\xed\xfe\x07\0\0\x01".to_vec(), &[0; 300])),
        ("an archive", archive.clone()),
        ("a jar", zip(&[("META-INF/MANIFEST.MF", b"x"), ("A.class", b"\xca\xfe\xba\xbe")])),
        ("a Word document", zip(&[("[Content_Types].xml", b"x"), ("word/document.xml", b"x")])),
        ("HTML", b"<!doctype html><html><body>hi</body></html>".to_vec()),
        ("HTML after space", [b"\xef\xbb\xbf \n\t", &script[..]].concat()),
        ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>".to_vec()),
        ("SVG behind a declaration", b"<?xml version='1.0'?><!-- x --><svg/>".to_vec()),
        ("a comment that hides HTML", with(b"<!-- ".to_vec(), script)),
        ("a shell script", b"#!/bin/sh\nrm -rf /\n".to_vec()),
        ("RTF", b"{\\rtf1 hello}".to_vec()),
        ("PostScript", b"%!PS-Adobe-3.0\n".to_vec()),
        ("text with a NUL", b"hello\0world".to_vec()),
        ("text with an escape", b"hello\x1b[31mworld".to_vec()),
        ("text in Latin-1", b"caf\xe9\n".to_vec()),
        ("half a character", b"hello \xe4\xbd".to_vec()),
        ("a GIF that is an archive", with(gif(), &archive)),
        ("a PNG that is an archive", with(png(), &archive)),
        ("a JPEG that is an archive", with(jpeg(), &archive)),
        ("a PDF that is an archive", with(with(pdf(), &archive), b"%%EOF")),
        ("a PNG with HTML behind it", with(png(), script)),
        ("a JPEG with HTML behind it", with(jpeg(), script)),
        ("a GIF with HTML behind it", with(gif(), script)),
        ("a WebP with HTML behind it", with(webp(), script)),
        ("a GIF that is a script", b"GIF89a=1;alert(1)//".to_vec()),
        ("a GIF header alone", b"GIF89a".to_vec()),
        ("a PNG header alone", b"\x89PNG\r\n\x1a\n".to_vec()),
        ("a JPEG header alone", b"\xff\xd8\xff\xe0".to_vec()),
        ("half a PNG", png()[..40].to_vec()),
        ("half a JPEG", jpeg()[..40].to_vec()),
        ("a PDF without an end", b"%PDF-1.4\nhello".to_vec()),
        ("a workbook with macros", xlsx_with(&[("xl/vbaProject.bin", b"x")])),
        ("a workbook with a program", xlsx_with(&[("xl/embeddings/run.exe", b"MZ")])),
        ("a workbook that climbs out", xlsx_with(&[("xl/../../x.xml", b"x")])),
        ("a workbook behind a program", with(b"MZ".to_vec(), &xlsx())),
        ("a workbook with a tail", with(xlsx(), b"tail")),
        ("an old workbook with macros", compound(&["/Workbook", "/_VBA_PROJECT_CUR/VBA/dir"])),
        ("an old Word document", compound(&["/WordDocument"])),
        ("a broken compound file", with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".to_vec(), &[0; 600])),
    ]
}

//! Workbooks: zip archives in which every byte belongs to a part that a workbook may have.
//!
//! The parts are compressed and nothing is inflated, so names decide; and what two readers could
//! read in two ways (a gap, another name in the part's own header, a comment) is refused.

use super::{Kind, KindError, skip, take};
use std::io::{BufReader, Read, Seek, SeekFrom};

/// The record that ends a zip archive, without its comment.
const END_RECORD: u64 = 22;
/// The records of the 64-bit format, which some writers put between though they do not need them.
const END_64: u64 = 76;
/// A workbook has at most this many parts.
const PARTS_MAX: u16 = 10_000;
/// The directory of the parts is read as a whole, and has at most this many bytes.
const DIRECTORY_MAX: u64 = 1 << 20;
/// A part's size when the 64-bit format has it elsewhere.
const ELSEWHERE: u32 = u32::MAX;

/// A zip archive that begins at the first byte, ends at the last, and has a workbook's parts.
pub(super) fn xlsx<R: Read + Seek>(file: &mut BufReader<R>, size: u64) -> Result<Kind, KindError> {
    parts(file, size).map_err(|error| error.broken("zip"))
}

fn broken() -> KindError {
    KindError::refused("its zip structure is broken")
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn parts<R: Read + Seek>(file: &mut BufReader<R>, size: u64) -> Result<Kind, KindError> {
    let (begin, count, directory) = directory(file, size)?;
    let (mut types, mut workbook, mut at, mut rest) = (false, false, 0, directory.as_slice());
    file.rewind()?;
    for _ in 0..count {
        let (entry, after) = Entry::split(rest).ok_or_else(broken)?;
        let next = if after.is_empty() { begin } else { u32_at(after, 42).into() };
        let name = normal(entry.name);
        if let Some(why) = forbidden(&name) {
            return Err(KindError::refused(why));
        }
        types |= name == "[content_types].xml";
        workbook |= name == "xl/workbook.xml";
        if u64::from(u32_at(entry.fixed, 42)) != at {
            return Err(KindError::refused("its zip structure has a gap"));
        }
        part(file, &entry, next.checked_sub(at).ok_or_else(broken)?)?;
        (at, rest) = (next, after);
    }
    if types && workbook && rest.is_empty() {
        Ok(Kind::Xlsx)
    } else {
        Err(KindError::refused("it is a zip archive, but no workbook"))
    }
}

/// Where the directory of the parts begins, how many they are, and its bytes.
fn directory<R: Read + Seek>(file: &mut BufReader<R>, size: u64) -> Result<(u64, u16, Vec<u8>), KindError> {
    let refuse = |why: &str| Err(KindError::refused(why));
    let Some(end) = size.checked_sub(END_RECORD) else { return refuse("its zip structure is cut off") };
    file.seek(SeekFrom::Start(end))?;
    let record: [u8; 22] = take(file)?;
    let count = u16_at(&record, 10);
    let (length, begin) = (u64::from(u32_at(&record, 12)), u64::from(u32_at(&record, 16)));
    let whole = record.starts_with(b"PK\x05\x06\0\0\0\0") && record.ends_with(&[0, 0]);
    if !whole || u16_at(&record, 8) != count || begin + length > end || count > PARTS_MAX {
        return refuse("it is a zip archive, but no workbook");
    }
    if length > DIRECTORY_MAX {
        return refuse("the workbook has too many parts");
    }
    file.seek(SeekFrom::Start(begin))?;
    let mut directory = Vec::new();
    file.take(length).read_to_end(&mut directory)?;
    match end - begin - length {
        0 => {}
        END_64 => {
            let more: [u8; END_64 as usize] = take(file)?;
            // They must say the same, or a reader that trusts them would see other parts.
            let same = more.starts_with(b"PK\x06\x06\x2c\0\0\0\0\0\0\0")
                && u64_at(&more, 24) == u64::from(count)
                && u64_at(&more, 32) == u64::from(count)
                && u64_at(&more, 40) == length
                && u64_at(&more, 48) == begin
                && more[56..].starts_with(b"PK\x06\x07\0\0\0\0")
                && u64_at(&more, 64) == begin + length;
            if !same {
                return Err(broken());
            }
        }
        _ => return refuse("its zip structure has a gap"),
    }
    Ok((begin, count, directory))
}

/// An entry of the directory.
struct Entry<'a> {
    fixed: &'a [u8],
    name: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The first entry, and what follows it.
    fn split(directory: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (fixed, rest) = directory.split_at_checked(46)?;
        let (name, rest) = rest.split_at_checked(u16_at(fixed, 28).into())?;
        let more = usize::from(u16_at(fixed, 30)) + usize::from(u16_at(fixed, 32));
        let (_, rest) = rest.split_at_checked(more)?;
        fixed.starts_with(b"PK\x01\x02").then_some((Self { fixed, name }, rest))
    }
}

/// Passes over a part, which must say of itself what the directory says, and fill `room`.
fn part<R: Read + Seek>(file: &mut BufReader<R>, entry: &Entry<'_>, room: u64) -> Result<(), KindError> {
    let header: [u8; 30] = take(file)?;
    let mut name = vec![0; u16_at(&header, 26).into()];
    file.read_exact(&mut name)?;
    let extra = u64::from(u16_at(&header, 28));
    let (packed, unpacked) = (u32_at(entry.fixed, 20), u32_at(entry.fixed, 24));
    let described = entry.fixed[8] & 8 != 0;
    let size = |at, real| matches!(u32_at(&header, at), found if found == real || found == ELSEWHERE || (described && found == 0));
    let same = header.starts_with(b"PK\x03\x04")
        && name == entry.name
        && header[6] & 9 == entry.fixed[8] & 9
        && u16_at(&header, 8) == u16_at(entry.fixed, 10)
        && size(18, packed)
        && size(22, unpacked);
    if !same {
        return Err(broken());
    }
    skip(file, extra + u64::from(packed))?;
    let used = 30 + name.len() as u64 + extra + u64::from(packed);
    let left = room.checked_sub(used).ok_or_else(broken)?;
    if left == 0 && !described {
        return Ok(());
    }
    if !described || !matches!(left, 12 | 16 | 20 | 24) {
        return Err(KindError::refused("its zip structure has a gap"));
    }
    let mut found = vec![0; left as usize];
    file.read_exact(&mut found)?;
    if descriptor(entry.fixed, left) == found { Ok(()) } else { Err(broken()) }
}

/// What stands behind a part whose size was not known when it was begun: with a mark or without,
/// with sizes of 32 bits or of 64.
fn descriptor(fixed: &[u8], length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if matches!(length, 16 | 24) {
        bytes.extend(b"PK\x07\x08");
    }
    bytes.extend(&fixed[16..20]);
    for size in [&fixed[20..24], &fixed[24..28]] {
        bytes.extend(size);
        if length >= 20 {
            bytes.extend([0; 4]);
        }
    }
    bytes
}

/// A part's name as systems compare it: case, the slash's direction, and dots and spaces at the end
/// of a step make no difference to one of them.
fn normal(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name).to_lowercase().replace('\\', "/");
    let steps: Vec<&str> = name.split('/').map(|step| step.trim_end_matches(['.', ' '])).collect();
    steps.join("/")
}

/// Why a workbook with a part of that name is refused.
fn forbidden(name: &str) -> Option<&'static str> {
    const FOLDERS: [&str; 5] = ["_rels/", "docprops/", "docmetadata/", "xl/", "customxml/"];
    const EXTENSIONS: [&str; 9] = ["xml", "rels", "vml", "png", "jpg", "jpeg", "gif", "emf", "wmf"];
    const DRAWINGS: [&str; 4] = ["svg", "bmp", "tif", "tiff"];
    if name == "[content_types].xml" {
        return None;
    }
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let settings = ["xl/printersettings/", "xl/customproperty"].iter().any(|place| name.starts_with(place));
    let settings = settings && extension == "bin";
    let drawing = DRAWINGS.contains(&extension) && name.starts_with("xl/media/");
    // A colon and a percent sign are other ways to write a name.
    let odd = |c: char| c.is_control() || matches!(c, ':' | '%');
    if name.contains("vbaproject") || name.contains("macrosheets/") {
        Some("the workbook has macros")
    } else if name.contains(odd) || name.split('/').any(|step| step.trim().is_empty()) {
        Some("the workbook has a part outside of it")
    } else if name.starts_with("xl/embeddings/") {
        Some("the workbook has another file in it")
    } else if !FOLDERS.iter().any(|folder| name.starts_with(folder)) {
        Some("it is a zip archive with parts that no workbook has")
    } else if !EXTENSIONS.contains(&extension) && !settings && !drawing {
        Some("the workbook has a part of an unknown type in it")
    } else {
        None
    }
}

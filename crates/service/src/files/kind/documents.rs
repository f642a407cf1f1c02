//! Documents: PDF, and the two formats of Excel.
//!
//! A workbook with macros is a program, and refused in both formats.

use super::{Kind, KindError, skip, take};
use std::io::{BufReader, Read, Seek, SeekFrom};

/// The record that ends a zip archive, without its comment.
const END_RECORD: u64 = 22;
/// The longest comment of a zip archive.
const COMMENT_MAX: u64 = 65_535;
/// Where in a PDF its end marker may stand, counted from the end.
const PDF_END: u64 = 1024;
/// A workbook has at most this many parts.
const PARTS_MAX: u16 = 10_000;

/// `%PDF-` begins it and `%%EOF` ends it, but for a little room that writers leave.
pub(super) fn pdf<R: Read + Seek>(file: &mut BufReader<R>, size: u64) -> Result<Kind, KindError> {
    file.seek(SeekFrom::Start(size.saturating_sub(PDF_END)))?;
    let mut tail = Vec::new();
    file.take(PDF_END).read_to_end(&mut tail)?;
    if tail.windows(5).any(|window| window == b"%%EOF") {
        Ok(Kind::Pdf)
    } else {
        Err(KindError::refused("the PDF has no end marker"))
    }
}

/// Whether a zip reader would take the file for an archive: they look from the end.
pub(super) fn ends_as_zip<R: Read + Seek>(file: &mut BufReader<R>, size: u64) -> Result<bool, KindError> {
    let begin = size.saturating_sub(END_RECORD + COMMENT_MAX);
    file.seek(SeekFrom::Start(begin))?;
    let mut tail = Vec::new();
    file.take(END_RECORD + COMMENT_MAX).read_to_end(&mut tail)?;
    // Readers differ in how exact the comment's length must be, so any whole record counts; archives of
    // several disks, which nobody reads any more, do not.
    let of_one_disk = |record: &[u8]| record.starts_with(b"PK\x05\x06\0\0\0\0");
    Ok(tail.windows(END_RECORD as usize).any(of_one_disk))
}

/// A zip archive that begins at the first byte, ends at the last, and has a workbook's parts.
pub(super) fn xlsx<R: Read + Seek>(file: &mut BufReader<R>, size: u64) -> Result<Kind, KindError> {
    parts(file, size).map_err(|error| error.broken("zip"))
}

fn parts<R: Read + Seek>(file: &mut BufReader<R>, size: u64) -> Result<Kind, KindError> {
    let refuse = |why: &str| Err(KindError::refused(why));
    let Some(end) = size.checked_sub(END_RECORD) else { return refuse("its zip structure is cut off") };
    file.seek(SeekFrom::Start(end))?;
    let record: [u8; 22] = take(file)?;
    let count = u16::from_le_bytes([record[10], record[11]]);
    let length = u64::from(u32::from_le_bytes([record[12], record[13], record[14], record[15]]));
    let begin = u64::from(u32::from_le_bytes([record[16], record[17], record[18], record[19]]));
    if !record.starts_with(b"PK\x05\x06") || begin + length > end || count > PARTS_MAX {
        return refuse("it is a zip archive, but no workbook");
    }
    // Some writers put the records of the 64-bit format between, though they do not need them.
    let gap = end - begin - length;
    file.seek(SeekFrom::Start(begin + length))?;
    if gap != 0 && (gap != 76 || &take::<4>(file)? != b"PK\x06\x06") {
        return refuse("its zip structure has a gap");
    }
    file.seek(SeekFrom::Start(begin))?;
    let (mut types, mut workbook) = (false, false);
    for _ in 0..count {
        let name = part_name(file)?;
        types |= name == "[content_types].xml";
        workbook |= name == "xl/workbook.xml";
        if let Some(why) = forbidden(&name) {
            return Err(KindError::refused(why));
        }
    }
    let walked = file.stream_position()? == begin + length;
    if types && workbook && walked { Ok(Kind::Xlsx) } else { refuse("it is a zip archive, but no workbook") }
}

/// The name of the next part, in lower case, from its entry in the central directory.
fn part_name<R: Read + Seek>(file: &mut BufReader<R>) -> Result<String, KindError> {
    let entry: [u8; 46] = take(file)?;
    if !entry.starts_with(b"PK\x01\x02") {
        return Err(KindError::refused("its zip structure is broken"));
    }
    let length = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
    let mut name = vec![0; length(28).into()];
    file.read_exact(&mut name)?;
    skip(file, u64::from(length(30)) + u64::from(length(32)))?;
    Ok(String::from_utf8_lossy(&name).to_lowercase().replace('\\', "/"))
}

/// Why a workbook with a part of that name is refused.
fn forbidden(name: &str) -> Option<&'static str> {
    const PROGRAMS: [&str; 14] =
        ["exe", "dll", "com", "scr", "msi", "bat", "cmd", "ps1", "vbs", "js", "jar", "sh", "lnk", "class"];
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    if name.contains("vbaproject") || name.contains("macrosheets/") {
        Some("the workbook has macros")
    } else if PROGRAMS.contains(&extension) {
        Some("the workbook has a program in it")
    } else if name.starts_with('/') || name.split('/').any(|step| step == "..") {
        Some("the workbook has a part outside of it")
    } else {
        None
    }
}

/// A compound file with a workbook's stream, and no macros.
pub(super) fn xls<R: Read + Seek>(file: &mut BufReader<R>) -> Result<Kind, KindError> {
    let broken = |_| KindError::refused("its compound file structure is broken");
    let compound = cfb::CompoundFile::open(file).map_err(broken)?;
    let has = |name: &str| compound.exists(name);
    if has("/_VBA_PROJECT_CUR") || has("/_VBA_PROJECT") || has("/Macros") {
        return Err(KindError::refused("the workbook has macros"));
    }
    if compound.is_stream("/Workbook") || compound.is_stream("/Book") {
        Ok(Kind::Xls)
    } else {
        Err(KindError::refused("it is a compound file, but no workbook"))
    }
}

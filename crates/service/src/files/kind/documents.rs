//! PDF documents, and the sign of an archive at the end of any file.

use super::{Kind, KindError};
use std::io::{BufReader, Read, Seek, SeekFrom};

/// The record that ends a zip archive, without its comment.
const END_RECORD: u64 = 22;
/// The longest comment of a zip archive.
const COMMENT_MAX: u64 = 65_535;
/// Where in a PDF its end marker may stand, counted from the end.
const PDF_END: u64 = 1024;

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

//! What a file is, read from its bytes.
//!
//! Ten kinds are accepted and nothing else. The magic at the start decides which one it may be, and
//! the structure up to the last byte whether it is: a file that is two things at once is refused.
//! The client's word counts in one place only, between readings of the same harmless text. Pure over
//! `Read + Seek`; memory does not grow with the file.

mod documents;
mod images;
mod text;
mod xls;
mod xlsx;

use serde::Serialize;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use utoipa::ToSchema;

/// What people read when a file is none of the accepted kinds.
pub const ACCEPTED: &str = "PDF, CSV, Excel (xls, xlsx), JPEG, PNG, GIF, WebP, plain text and JSON";

/// How much of the start is looked at to tell what a file may be.
const HEAD: usize = 4096;

/// A kind of file that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub enum Kind {
    /// A PDF document.
    Pdf,
    /// Comma-separated values, or with semicolons or tabs.
    Csv,
    /// An Excel workbook of the old format.
    Xls,
    /// An Excel workbook.
    Xlsx,
    /// A JPEG picture.
    Jpeg,
    /// A PNG picture.
    Png,
    /// A GIF picture.
    Gif,
    /// A WebP picture.
    Webp,
    /// Plain text in UTF-8.
    Text,
    /// A JSON object or array.
    Json,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Pdf,
        Self::Csv,
        Self::Xls,
        Self::Xlsx,
        Self::Jpeg,
        Self::Png,
        Self::Gif,
        Self::Webp,
        Self::Text,
        Self::Json,
    ];

    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Pdf => "application/pdf",
            Self::Csv => "text/csv",
            Self::Xls => "application/vnd.ms-excel",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::Text => "text/plain",
            Self::Json => "application/json",
        }
    }

    /// The extension of stored names.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Csv => "csv",
            Self::Xls => "xls",
            Self::Xlsx => "xlsx",
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Gif => "gif",
            Self::Webp => "webp",
            Self::Text => "txt",
            Self::Json => "json",
        }
    }

    /// The kind of a media type that was stored.
    #[must_use]
    pub fn of_media_type(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.media_type() == text)
    }

    /// The kind that a client's file name promises.
    #[must_use]
    pub fn promised(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "pdf" => Self::Pdf,
            "csv" | "tsv" => Self::Csv,
            "xls" => Self::Xls,
            "xlsx" => Self::Xlsx,
            "jpg" | "jpeg" => Self::Jpeg,
            "png" => Self::Png,
            "gif" => Self::Gif,
            "webp" => Self::Webp,
            "txt" | "text" | "log" | "md" => Self::Text,
            "json" => Self::Json,
            _ => return None,
        })
    }

    /// Whether bytes of this kind may be stored as `promised`: JSON and CSV are plain text as well.
    #[must_use]
    pub fn keeps(self, promised: Self) -> bool {
        self == promised || (promised == Self::Text && matches!(self, Self::Json | Self::Csv))
    }
}

/// Why a file's kind is not accepted, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KindError {
    /// It is none of the accepted kinds; the sentence says what is wrong.
    #[error("{0}")]
    Refused(String),
    /// Reading failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl KindError {
    fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }

    /// The end of a file within a structure means that the structure is broken.
    fn broken(self, what: &str) -> Self {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::refused(format!("its {what} structure is cut off"))
            }
            other => other,
        }
    }
}

/// Tells what a file is; `name` is the client's word for it.
///
/// # Errors
/// [`KindError::Refused`] for anything that is not accepted.
pub fn detect(file: impl Read + Seek, name: &str) -> Result<Kind, KindError> {
    let mut file = BufReader::with_capacity(64 * 1024, file);
    let size = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut head = Vec::with_capacity(HEAD);
    file.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    file.rewind()?;
    let zip = head.starts_with(b"PK\x03\x04");
    if !zip && documents::ends_as_zip(&mut file, size)? {
        return Err(KindError::refused("it is a zip archive as well"));
    }
    file.rewind()?;
    let kind = match () {
        () if head.starts_with(b"%PDF-") => documents::pdf(&mut file, size)?,
        () if head.starts_with(b"\x89PNG\r\n\x1a\n") => images::png(&mut file, size)?,
        () if head.starts_with(b"\xff\xd8\xff") => images::jpeg(&mut file, size)?,
        () if head.starts_with(b"GIF87a") || head.starts_with(b"GIF89a") => images::gif(&mut file, size)?,
        () if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") => images::webp(&mut file, size)?,
        () if zip => xlsx::xlsx(&mut file, size)?,
        () if head.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") => xls::xls(&mut file, size)?,
        () => text::detect(&mut file, &head, name)?,
    };
    Ok(kind)
}

/// What the start of a refused file looks like.
fn looks_like(head: &[u8]) -> String {
    match infer::get(head) {
        Some(found) => format!("it looks like {}", found.mime_type()),
        None => "it is neither one of them nor text in UTF-8".to_owned(),
    }
}

/// Fixed bytes at the reader's place.
fn take<const N: usize>(file: &mut impl Read) -> Result<[u8; N], KindError> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Passes over bytes; going past the end is found by what reads next.
fn skip<R: Read + Seek>(file: &mut BufReader<R>, bytes: u64) -> Result<(), KindError> {
    file.seek_relative(i64::try_from(bytes).map_err(|_| KindError::refused("it is broken"))?)?;
    Ok(())
}

/// Passes over bytes until one of that value has been read; says whether there was one.
fn skip_past(file: &mut impl BufRead, wanted: u8) -> Result<bool, KindError> {
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            return Ok(false);
        }
        let found = buffer.iter().position(|byte| *byte == wanted);
        let used = found.map_or(buffer.len(), |at| at + 1);
        file.consume(used);
        if found.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests;

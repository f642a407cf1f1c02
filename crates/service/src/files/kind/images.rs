//! Pictures: walked from their first block to their last, which must end the file.

use super::{Kind, KindError, skip, skip_past, take};
use std::io::{BufReader, Read, Seek, SeekFrom};

/// A picture has at most this many blocks; each step of a walk is one, so a walk has an end.
const BLOCKS_MAX: usize = 1_000_000;
/// A camera's directory has at most this many entries.
const CAMERA_MAX: u32 = 256;

fn trailing(what: &str) -> KindError {
    KindError::refused(format!("something follows the end of the {what}"))
}

fn broken(what: &str) -> KindError {
    KindError::refused(format!("its {what} structure is broken"))
}

/// Chunks from `IHDR` to `IEND`.
pub(super) fn png<R: Read + Seek>(file: &mut BufReader<R>, size: u64) -> Result<Kind, KindError> {
    let mut at = 8;
    skip(file, at)?;
    for number in 0..BLOCKS_MAX {
        let header: [u8; 8] = take(file).map_err(|error| error.broken("PNG"))?;
        let [a, b, c, d, name @ ..] = header;
        let length = u64::from(u32::from_be_bytes([a, b, c, d]));
        at += 8 + length + 4;
        if at > size || (number == 0) != (&name == b"IHDR") {
            return Err(broken("PNG"));
        }
        if &name == b"IEND" {
            return if at == size && length == 0 { Ok(Kind::Png) } else { Err(trailing("picture")) };
        }
        skip(file, length + 4)?;
    }
    Err(broken("PNG"))
}

/// Blocks from the screen descriptor to the trailer.
pub(super) fn gif<R: Read + Seek>(file: &mut BufReader<R>, size: u64) -> Result<Kind, KindError> {
    gif_blocks(file, size).map_err(|error| error.broken("GIF"))
}

fn gif_blocks<R: Read + Seek>(file: &mut BufReader<R>, size: u64) -> Result<Kind, KindError> {
    skip(file, 6)?;
    let screen: [u8; 7] = take(file)?;
    skip(file, colours(screen[4]))?;
    for _ in 0..BLOCKS_MAX {
        match take::<1>(file)? {
            [0x21] => {
                skip(file, 1)?;
                sub_blocks(file)?;
            }
            [0x2c] => {
                let descriptor: [u8; 9] = take(file)?;
                skip(file, colours(descriptor[8]) + 1)?;
                sub_blocks(file)?;
            }
            [0x3b] => {
                let ended = file.stream_position()? == size;
                return if ended { Ok(Kind::Gif) } else { Err(trailing("picture")) };
            }
            _ => return Err(broken("GIF")),
        }
    }
    Err(broken("GIF"))
}

/// The bytes of a table of colours.
const fn colours(flags: u8) -> u64 {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

fn sub_blocks<R: Read + Seek>(file: &mut BufReader<R>) -> Result<(), KindError> {
    loop {
        match take::<1>(file)? {
            [0] => return Ok(()),
            [length] => skip(file, length.into())?,
        }
    }
}

/// Chunks that fill what the `RIFF` header announces, which is the file.
pub(super) fn webp<R: Read + Seek>(file: &mut BufReader<R>, size: u64) -> Result<Kind, KindError> {
    let header: [u8; 12] = take(file)?;
    let [_, _, _, _, a, b, c, d, ..] = header;
    if u64::from(u32::from_le_bytes([a, b, c, d])) + 8 != size {
        return Err(trailing("picture"));
    }
    let mut at = 12;
    for number in 0..BLOCKS_MAX {
        if at == size && number > 0 {
            return Ok(Kind::Webp);
        }
        let [n0, n1, n2, n3, a, b, c, d]: [u8; 8] = take(file).map_err(|error| error.broken("WebP"))?;
        let length = u64::from(u32::from_le_bytes([a, b, c, d]));
        let padded = length + length % 2;
        at += 8 + padded;
        let name = [n0, n1, n2, n3];
        if at > size || (number == 0 && !matches!(&name, b"VP8 " | b"VP8L" | b"VP8X")) {
            return Err(broken("WebP"));
        }
        skip(file, padded)?;
    }
    Err(broken("WebP"))
}

/// Segments from the start of the image to its end.
///
/// What cameras put after it is known and walked as well: further pictures (previews, gain maps)
/// and one maker's directory, which ends the file and says where it begins.
pub(super) fn jpeg<R: Read + Seek>(file: &mut BufReader<R>, size: u64) -> Result<Kind, KindError> {
    for _ in 0..16 {
        jpeg_image(file).map_err(|error| error.broken("JPEG"))?;
        let at = file.stream_position()?;
        if at == size {
            return Ok(Kind::Jpeg);
        }
        let mut next = [0; 2];
        let there = file.read(&mut next[..1])? + file.read(&mut next[1..])?;
        if there < 2 || next != [0xff, 0xd8] {
            return if camera_directory(file, at, size)? { Ok(Kind::Jpeg) } else { Err(trailing("picture")) };
        }
        file.seek_relative(-2)?;
    }
    Err(broken("JPEG"))
}

/// One image: markers up to the scans, the scans' bytes, the end marker.
fn jpeg_image<R: Read + Seek>(file: &mut BufReader<R>) -> Result<(), KindError> {
    let [0xff, 0xd8] = take(file)? else { return Err(broken("JPEG")) };
    let mut framed = false;
    for _ in 0..BLOCKS_MAX {
        let [0xff] = take(file)? else { return Err(broken("JPEG")) };
        let mut marker = take::<1>(file)?[0];
        while marker == 0xff {
            marker = take::<1>(file)?[0];
        }
        match marker {
            0xd9 if framed => return Ok(()),
            0xd0..=0xd7 | 0x01 => continue,
            0x00 | 0xd8 | 0xd9 => return Err(broken("JPEG")),
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => framed = true,
            _ => {}
        }
        let length = u64::from(u16::from_be_bytes(take(file)?));
        skip(file, length.checked_sub(2).ok_or_else(|| broken("JPEG"))?)?;
        if marker == 0xda {
            scan(file)?;
        }
    }
    Err(broken("JPEG"))
}

/// The bytes of a scan, up to the next marker that is no part of it.
fn scan<R: Read + Seek>(file: &mut BufReader<R>) -> Result<(), KindError> {
    while skip_past(file, 0xff)? {
        let next = take::<1>(file)?[0];
        if !matches!(next, 0x00 | 0xd0..=0xd7 | 0xff) {
            file.seek_relative(-2)?;
            return Ok(());
        }
        if next == 0xff {
            file.seek_relative(-1)?;
        }
    }
    Err(broken("JPEG"))
}

/// Entries, `SEFH` with what they are, its length, `SEFT`: a directory that ends the file.
///
/// The entries must fill everything from the last picture to `SEFH`, and each must begin as the
/// directory says, so that no byte is there that the camera's maker did not describe.
fn camera_directory<R: Read + Seek>(
    file: &mut BufReader<R>,
    from: u64,
    size: u64,
) -> Result<bool, KindError> {
    let Some(end) = size.checked_sub(8).filter(|end| *end >= from) else { return Ok(false) };
    file.seek(SeekFrom::Start(end))?;
    let [a, b, c, d, tail @ ..]: [u8; 8] = take(file)?;
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    let begin = end.checked_sub(length).filter(|begin| *begin >= from);
    let (b"SEFT", Some(begin)) = (&tail, begin) else { return Ok(false) };
    file.seek(SeekFrom::Start(begin))?;
    let [s, e, f, h, _, _, _, _, a, b, c, d]: [u8; 12] = take(file)?;
    let count = u32::from_le_bytes([a, b, c, d]);
    if &[s, e, f, h] != b"SEFH" || count > CAMERA_MAX || 12 + u64::from(count) * 12 != length {
        return Ok(false);
    }
    let mut entries = Vec::new();
    for _ in 0..count {
        let [k0, k1, k2, k3, a, b, c, d, e, f, g, h]: [u8; 12] = take(file)?;
        let back = u64::from(u32::from_le_bytes([a, b, c, d]));
        let bytes = u64::from(u32::from_le_bytes([e, f, g, h]));
        let Some(at) = begin.checked_sub(back) else { return Ok(false) };
        entries.push((at, bytes, [k0, k1, k2, k3]));
    }
    entries.sort_unstable();
    let mut at = from;
    for (entry, bytes, kind) in entries {
        if entry != at || bytes < 8 || bytes > begin - at {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(at))?;
        if take::<4>(file)? != kind {
            return Ok(false);
        }
        at += bytes;
    }
    Ok(at == begin)
}

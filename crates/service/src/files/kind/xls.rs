//! Old workbooks: compound files, which are a file system of sectors within a file.
//!
//! The tables are read where they are needed and bounded before, so a table that a header promises
//! takes no memory: the list of the allocation table's sectors, one sector of it, and the directory.

use super::{Kind, KindError};
use std::io::{BufReader, Read, Seek, SeekFrom};

/// A sector that belongs to nothing.
const FREE: u32 = u32::MAX;
/// The allocation table has at most this many bytes.
const FAT_MAX: u64 = 2 << 20;
/// The directory has at most this many entries.
const ENTRIES_MAX: usize = 4096;
/// The table of the small sectors has at most this many sectors.
const SMALL_MAX: u32 = 1024;
/// Streams below this many bytes are kept in small sectors, by every writer there is.
const SMALL_STREAM: u64 = 4096;
/// The records that tell of a workbook's sheets are at most this many.
const RECORDS_MAX: usize = 100_000;

const END: u16 = 0x000a;
const ENCRYPTED: u16 = 0x002f;
const SHEET: u16 = 0x0085;

fn broken() -> KindError {
    KindError::refused("its compound file structure is broken")
}

fn macros() -> KindError {
    KindError::refused("the workbook has macros")
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// A compound file with a workbook's stream, no macros, and nothing behind its last sector.
pub(super) fn xls<R: Read + Seek>(file: &mut BufReader<R>, size: u64) -> Result<Kind, KindError> {
    // Whole sectors are read here and there, for which a buffer in between is in the way.
    Compound::open(file.get_mut(), size)
        .and_then(|mut compound| compound.workbook())
        .map_err(|error| error.broken("compound file"))
}

/// What the walk needs of a directory entry.
struct Entry {
    name: String,
    kind: u8,
    left: u32,
    right: u32,
    child: u32,
    start: u32,
    size: u64,
}

/// A place in a stream; it only moves on.
struct Place {
    /// Of small sectors within the root's stream, or of the file's sectors.
    small: bool,
    sector: u32,
    index: u64,
    at: u64,
    size: u64,
}

struct Compound<'a, R> {
    file: &'a mut R,
    header: [u8; 512],
    shift: u32,
    sectors: u32,
    fat: Vec<u32>,
    cached: Option<u32>,
    sector: Vec<u8>,
    root: u32,
    /// The chain, the step and the sector that [`Self::byte`] came to last.
    walked: (u32, u64, u32),
}

impl<'a, R: Read + Seek> Compound<'a, R> {
    fn open(file: &'a mut R, size: u64) -> Result<Self, KindError> {
        let mut header = [0; 512];
        file.rewind()?;
        file.read_exact(&mut header)?;
        let shift = match (u16_at(&header, 26), u16_at(&header, 30)) {
            (3, 9) => 9,
            (4, 12) => 12,
            _ => return Err(broken()),
        };
        if u64::from(u32_at(&header, 56)) != SMALL_STREAM {
            return Err(broken());
        }
        let sectors = u32::try_from(size.div_ceil(1 << shift).saturating_sub(1)).map_err(|_| broken())?;
        let (fat, sector, walked) = (Vec::new(), Vec::new(), (FREE, 0, FREE));
        let mut compound =
            Self { file, header, shift, sectors, fat, cached: None, sector, root: FREE, walked };
        let count = u32_at(&header, 44);
        if u64::from(count) << shift > FAT_MAX || count > sectors || u32_at(&header, 64) > SMALL_MAX {
            return Err(KindError::refused("its compound file structure is too large"));
        }
        compound.read_table_list(count as usize)?;
        compound.ends_with_its_sectors(size)?;
        Ok(compound)
    }

    /// Where the sectors of the allocation table are: first in the header, then in sectors of their own.
    fn read_table_list(&mut self, count: usize) -> Result<(), KindError> {
        let header = self.header;
        let listed = |bytes: &[u8], fat: &mut Vec<u32>| {
            let left = count - fat.len();
            fat.extend(bytes.chunks_exact(4).map(|chunk| u32_at(chunk, 0)).take(left));
        };
        listed(&header[76..], &mut self.fat);
        let mut next = u32_at(&header, 68);
        while self.fat.len() < count {
            // Each holds a hundred entries or more, so the count bounds this.
            self.load(next)?;
            let (entries, last) = self.sector.split_at((1 << self.shift) - 4);
            next = u32_at(last, 0);
            listed(entries, &mut self.fat);
        }
        if self.fat.iter().all(|sector| *sector < self.sectors) { Ok(()) } else { Err(broken()) }
    }

    /// The file must end where its last sector that is in use does, but for less than a sector.
    fn ends_with_its_sectors(&mut self, size: u64) -> Result<(), KindError> {
        let mut used = 0;
        for index in 0..self.fat.len() {
            self.load(self.fat[index])?;
            let per = self.sector.len() / 4;
            let last = self.sector.chunks_exact(4).rposition(|entry| u32_at(entry, 0) != FREE);
            used = last.map_or(used, |last| (index * per + last + 1) as u64);
        }
        if size < (used + 2) << self.shift {
            Ok(())
        } else {
            Err(KindError::refused("something follows the end of the compound file"))
        }
    }

    /// Reads a sector to look into; the last one may be cut short.
    fn load(&mut self, sector: u32) -> Result<(), KindError> {
        if self.cached == Some(sector) {
            return Ok(());
        }
        if sector >= self.sectors {
            return Err(broken());
        }
        self.cached = None;
        self.sector.clear();
        self.file.seek(SeekFrom::Start((u64::from(sector) + 1) << self.shift))?;
        (&mut *self.file).take(1 << self.shift).read_to_end(&mut self.sector)?;
        // What was cut off reads as free, so whatever leads there is broken.
        self.sector.resize(1 << self.shift, 0xff);
        self.cached = Some(sector);
        Ok(())
    }

    /// The sector that follows.
    fn next(&mut self, sector: u32) -> Result<u32, KindError> {
        let per = 1 << (self.shift - 2);
        let table = *self.fat.get((sector / per) as usize).ok_or_else(broken)?;
        self.load(table)?;
        Ok(u32_at(&self.sector, (sector % per) as usize * 4))
    }

    fn nth(&mut self, mut sector: u32, steps: u64) -> Result<u32, KindError> {
        for _ in 0..steps {
            sector = self.next(sector)?;
        }
        Ok(sector)
    }

    fn entries(&mut self) -> Result<Vec<Entry>, KindError> {
        let mut entries = Vec::new();
        let mut sector = u32_at(&self.header, 48);
        while sector < self.sectors {
            self.load(sector)?;
            entries.extend(self.sector.chunks_exact(128).map(|entry| Entry::read(entry, self.shift)));
            if entries.len() > ENTRIES_MAX {
                return Err(KindError::refused("its compound file structure is too large"));
            }
            sector = self.next(sector)?;
        }
        Ok(entries)
    }

    fn workbook(&mut self) -> Result<Kind, KindError> {
        let entries = self.entries()?;
        // Wherever they are: a document within the workbook has macros as well as the workbook itself.
        let program = |entry: &Entry| {
            entry.kind != 0 && ["_vba_project_cur", "_vba_project", "macros", "vba"].contains(&&*entry.name)
        };
        if entries.iter().any(program) {
            return Err(macros());
        }
        let root = entries.first().filter(|entry| entry.kind == 5).ok_or_else(broken)?;
        self.root = root.start;
        let mut found = 0;
        let (mut waiting, mut steps) = (vec![root.child], 0);
        while let Some(number) = waiting.pop() {
            let Some(entry) = entries.get(number as usize) else { continue };
            steps += 1;
            // The two formats of the nineties may be in one file; more is a trap.
            if steps > entries.len() || found > 2 {
                return Err(broken());
            }
            waiting.extend([entry.left, entry.right]);
            if entry.kind == 2 && matches!(&*entry.name, "workbook" | "book") {
                found += 1;
                self.sheets(entry)?;
            }
        }
        if found > 0 {
            Ok(Kind::Xls)
        } else {
            Err(KindError::refused("it is a compound file, but no workbook"))
        }
    }

    /// Looks at the records that lead a workbook's stream: each sheet says what it is.
    fn sheets(&mut self, entry: &Entry) -> Result<(), KindError> {
        let limit = u64::from(self.sectors) << self.shift;
        if entry.size > limit {
            return Err(broken());
        }
        let small = entry.size < SMALL_STREAM;
        let mut place = Place { small, sector: entry.start, index: 0, at: 0, size: entry.size };
        for _ in 0..RECORDS_MAX {
            let mut record = [0; 4];
            if !self.read(&mut place, &mut record)? {
                return Ok(());
            }
            let (kind, length) = (u16_at(&record, 0), u16_at(&record, 2));
            let after = place.at + u64::from(length);
            match kind {
                END => return Ok(()),
                // The kinds of its sheets are encrypted with it, so nobody can tell about macros.
                ENCRYPTED => return Err(KindError::refused("the workbook is encrypted")),
                SHEET => {
                    let mut sheet = [0; 6];
                    if length < 6 || !self.read(&mut place, &mut sheet)? {
                        return Err(broken());
                    }
                    match sheet[5] {
                        0 | 2 => {}
                        1 | 6 => return Err(macros()),
                        _ => return Err(broken()),
                    }
                }
                _ => {}
            }
            place.at = after;
        }
        Err(KindError::refused("the workbook has too many records"))
    }

    /// Reads on; false when the stream ends before.
    fn read(&mut self, place: &mut Place, into: &mut [u8]) -> Result<bool, KindError> {
        if place.at + into.len() as u64 > place.size {
            return Ok(false);
        }
        let shift = if place.small { 6 } else { self.shift };
        for byte in into {
            while place.index < place.at >> shift {
                place.sector =
                    if place.small { self.next_small(place.sector)? } else { self.next(place.sector)? };
                place.index += 1;
            }
            let within = place.at & ((1 << shift) - 1);
            *byte = if place.small {
                let at = (u64::from(place.sector) << 6) + within;
                self.byte(self.root, at)?
            } else {
                self.load(place.sector)?;
                self.sector[within as usize]
            };
            place.at += 1;
        }
        Ok(true)
    }

    fn next_small(&mut self, sector: u32) -> Result<u32, KindError> {
        let at = u64::from(sector) * 4;
        let mut bytes = [0; 4];
        let tables = u64::from(u32_at(&self.header, 64));
        if at >> self.shift >= tables {
            return Err(broken());
        }
        let first = u32_at(&self.header, 60);
        for (offset, byte) in bytes.iter_mut().enumerate() {
            *byte = self.byte(first, at + offset as u64)?;
        }
        Ok(u32::from_le_bytes(bytes))
    }

    /// A byte of the chain that begins at a sector.
    fn byte(&mut self, first: u32, at: u64) -> Result<u8, KindError> {
        // The small sectors that their table can tell of end here.
        if at >> self.shift > u64::from(SMALL_MAX) << (self.shift - 2) >> (self.shift - 6) {
            return Err(broken());
        }
        let step = at >> self.shift;
        if (self.walked.0, self.walked.1) != (first, step) {
            self.walked = (first, step, self.nth(first, step)?);
        }
        self.load(self.walked.2)?;
        Ok(self.sector[(at & ((1 << self.shift) - 1)) as usize])
    }
}

impl Entry {
    fn read(bytes: &[u8], shift: u32) -> Self {
        let length = usize::from(u16_at(bytes, 64)).min(64);
        let units = bytes[..length].chunks_exact(2).map(|unit| u16_at(unit, 0)).take_while(|unit| *unit != 0);
        let name: String =
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        // The old format has sizes of 32 bits, and leaves what it likes in the other half.
        let high = if shift == 9 { 0 } else { u64::from(u32_at(bytes, 124)) << 32 };
        Self {
            name: name.to_lowercase(),
            kind: bytes[66],
            left: u32_at(bytes, 68),
            right: u32_at(bytes, 72),
            child: u32_at(bytes, 76),
            start: u32_at(bytes, 116),
            size: u64::from(u32_at(bytes, 120)) | high,
        }
    }
}

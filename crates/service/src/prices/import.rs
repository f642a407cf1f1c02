//! Taking over a price list, a hundred models at a time, so that other writes go between.
//!
//! A model whose price says what the list says is left alone, so a second import of the same list writes
//! nothing. Nothing that has been in force is changed: a price that differs is a new version.

use super::book::Book;
use super::litellm::{self, List, Listed};
use super::version::PriceVersion;
use super::{edits, store};
use crate::db::{Db, DbError};
use crate::writer::{Command, WriteError, Writer};
use kernel::Timestamp;
use serde::Serialize;
use std::collections::HashSet;
use utoipa::ToSchema;

/// How many models are written in one go.
const CHUNK: usize = 100;
/// How often a chunk is tried that meets somebody else's changes.
pub const ATTEMPTS: usize = 4;
/// How many versions a model may have.
pub const VERSIONS_MAX: usize = 1_000;
/// How many versions all models may have together.
pub const ROWS_MAX: usize = 200_000;

/// How a list is taken over.
#[derive(Debug, Clone)]
pub struct Import {
    /// What the versions say of where they come from.
    pub source: String,
    /// Who does it.
    pub actor: String,
    /// From when the prices are in force.
    pub effective_at: Timestamp,
    /// When it happens.
    pub now: Timestamp,
}

/// What became of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportStatus {
    /// It has a new version.
    Imported,
    /// Its price said the same already.
    Unchanged,
    /// It was left out.
    Skipped,
}

/// A model of the list, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImportOutcome {
    /// Its name.
    #[schema(max_length = 1000)]
    pub model: String,
    /// What became of it.
    pub status: ImportStatus,
    /// The version that says what the list says.
    #[schema(minimum = 1, maximum = 1_000)]
    pub version: Option<i64>,
    /// Why it was left out.
    #[schema(max_length = 20_000)]
    pub why: Option<String>,
    /// Fields that price something else and were passed over.
    #[schema(max_items = 500, max_length = 1000)]
    pub ignored: Vec<String>,
    /// Fields whose literal was rounded to 15 decimal places.
    #[schema(max_items = 500, max_length = 1000)]
    pub rounded: Vec<String>,
}

/// What became of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImportReport {
    /// Models with a new version.
    #[schema(minimum = 0, maximum = 20_000)]
    pub imported: usize,
    /// Models whose price said the same already.
    #[schema(minimum = 0, maximum = 20_000)]
    pub unchanged: usize,
    /// Models that were left out.
    #[schema(minimum = 0, maximum = 20_000)]
    pub skipped: usize,
    /// Model by model, in the order of the list.
    #[schema(max_items = 20_000)]
    pub models: Vec<ImportOutcome>,
}

impl ImportReport {
    fn new(models: Vec<ImportOutcome>) -> Self {
        let count = |status| models.iter().filter(|outcome| outcome.status == status).count();
        Self {
            imported: count(ImportStatus::Imported),
            unchanged: count(ImportStatus::Unchanged),
            skipped: count(ImportStatus::Skipped),
            models,
        }
    }
}

/// Why a list was not taken over to its end; what was written before stays.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImportError {
    /// The database cannot be read.
    #[error(transparent)]
    Read(#[from] DbError),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Others change the same prices all the time.
    #[error("the same prices are being changed by somebody else; import the list again")]
    Contended,
}

impl ImportError {
    /// The same as an error of the database, for the start.
    #[must_use]
    pub fn into_db(self) -> DbError {
        match self {
            Self::Read(error) => error,
            other => DbError::Unavailable(other.to_string()),
        }
    }
}

/// Whether a model may have another version, from that instant on.
///
/// # Errors
/// Why not, in one sentence.
pub fn may_add(book: &Book, model: &str, effective_at: Timestamp, added: usize) -> Result<i64, String> {
    let known = book.model(model);
    let count = known.map_or(0, |model| model.versions.len());
    if count >= VERSIONS_MAX {
        return Err(format!("it has {VERSIONS_MAX} versions already"));
    }
    if book.rows + added >= ROWS_MAX {
        return Err(format!("the price book has {ROWS_MAX} versions already"));
    }
    match known.and_then(|model| model.last()) {
        Some(last) if last.effective_at >= effective_at => Err(format!(
            "its version {} is in force from {}, and history is not changed",
            last.version, last.effective_at
        )),
        last => Ok(last.map_or(1, |last| last.version + 1)),
    }
}

/// A list against a book: what is to be written, and what becomes of each model.
struct Planner<'a> {
    book: &'a Book,
    import: &'a Import,
    added: usize,
    versions: Vec<PriceVersion>,
}

impl Planner<'_> {
    fn outcome(&mut self, model: &str, read: &Result<Listed, String>) -> ImportOutcome {
        let mut outcome = ImportOutcome {
            model: model.to_owned(),
            status: ImportStatus::Skipped,
            version: None,
            why: None,
            ignored: Vec::new(),
            rounded: Vec::new(),
        };
        match read {
            Err(why) => outcome.why = Some(why.clone()),
            Ok(listed) => {
                outcome.ignored.clone_from(&listed.ignored);
                outcome.rounded.clone_from(&listed.rounded);
                match self.decide(model, listed) {
                    Ok((status, version)) => (outcome.status, outcome.version) = (status, Some(version)),
                    Err(why) => outcome.why = Some(why),
                }
            }
        }
        outcome
    }

    fn decide(&mut self, model: &str, listed: &Listed) -> Result<(ImportStatus, i64), String> {
        let Import { source, actor, effective_at, now } = self.import;
        let last = self.book.model(model).and_then(|model| model.last());
        if let Some(last) = last.filter(|last| last.tariff == listed.tariff) {
            return Ok((ImportStatus::Unchanged, last.version));
        }
        let version = may_add(self.book, model, *effective_at, self.added + self.versions.len())?;
        self.versions.push(PriceVersion {
            model: model.into(),
            version,
            effective_at: *effective_at,
            created_at: *now,
            tariff: listed.tariff.clone(),
            source: source.clone(),
            actor: actor.clone(),
        });
        Ok((ImportStatus::Imported, version))
    }
}

/// Reads each model of a list; one that stands twice is taken once.
fn read(list: &List) -> Vec<(&str, Result<Listed, String>)> {
    let mut seen = HashSet::new();
    let read = list.0.iter().map(|(model, text)| {
        let listed = if seen.insert(model.as_str()) {
            litellm::read(model, text)
        } else {
            Err("it stands in the list twice".to_owned())
        };
        (model.as_str(), listed)
    });
    read.collect()
}

/// What would become of a list, without writing anything.
#[must_use]
pub fn rehearse(book: &Book, import: &Import, list: &List) -> ImportReport {
    let mut planner = Planner { book, import, added: 0, versions: Vec::new() };
    ImportReport::new(read(list).iter().map(|(model, listed)| planner.outcome(model, listed)).collect())
}

/// Takes a list over; `progress` hears how many models are done.
///
/// # Errors
/// [`ImportError`].
pub async fn run(
    db: &Db,
    writer: &Writer,
    import: &Import,
    list: &List,
    mut progress: impl FnMut(usize),
) -> Result<ImportReport, ImportError> {
    let mut book = store::book(db).await?;
    let mut outcomes = Vec::with_capacity(list.0.len());
    let mut added = 0;
    let listed = read(list);
    // What is left out costs no write, so chunks are counted in what is written.
    let mut rest = &listed[..];
    while !rest.is_empty() {
        let mut attempt = 0;
        let (taken, written) = loop {
            let mut planner = Planner { book: &book, import, added, versions: Vec::new() };
            let mut taken = Vec::new();
            for (model, listed) in rest {
                if planner.versions.len() == CHUNK {
                    break;
                }
                taken.push(planner.outcome(model, listed));
            }
            let versions = planner.versions;
            if versions.is_empty() {
                break (taken, 0);
            }
            match writer.execute(Command::Edit(edits::add(&versions, &[], import.now))).await {
                Ok(_) => break (taken, versions.len()),
                Err(WriteError::Refused(_)) if attempt + 1 < ATTEMPTS => {
                    attempt += 1;
                    (book, added) = (store::book(db).await?, 0);
                }
                Err(WriteError::Refused(_)) => return Err(ImportError::Contended),
                Err(error) => return Err(error.into()),
            }
        };
        added += written;
        rest = &rest[taken.len()..];
        outcomes.extend(taken);
        progress(outcomes.len());
    }
    Ok(ImportReport::new(outcomes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prices::fallback_version;
    use kernel::Rate;

    fn version(number: i64) -> PriceVersion {
        PriceVersion {
            model: "m".into(),
            version: number,
            effective_at: Timestamp::from_micros(number),
            ..fallback_version(Rate::ZERO)
        }
    }

    #[test]
    fn a_model_and_the_book_have_room_for_so_many_versions() {
        let at = Timestamp::from_micros;
        let most = i64::try_from(VERSIONS_MAX).expect("a number");
        let book = |last| Book::new(1, (1..=last).map(version).collect(), Vec::new());
        assert_eq!(may_add(&book(most - 1), "m", at(most), 0), Ok(most));
        assert_eq!(
            may_add(&book(most), "m", at(most + 1), 0),
            Err("it has 1000 versions already".to_owned())
        );
        let mut full = book(1);
        full.rows = ROWS_MAX - 1;
        assert_eq!(may_add(&full, "other", at(1), 0), Ok(1));
        let refused = Err("the price book has 200000 versions already".to_owned());
        assert_eq!(may_add(&full, "other", at(1), 1), refused);
        full.rows = ROWS_MAX;
        assert_eq!(may_add(&full, "m", at(2), 0), refused);
    }

    #[test]
    fn a_list_is_rehearsed_as_it_would_be_taken_over() {
        let import = Import {
            source: "import".to_owned(),
            actor: "test".to_owned(),
            effective_at: Timestamp::from_micros(1),
            now: Timestamp::from_micros(9),
        };
        let list = r#"{"n":{"input_cost_per_token":1},"n":{"input_cost_per_token":2},"m":{"input_cost_per_token":1},"x":{}}"#;
        let list: List = serde_json::from_str(list).expect("a list");
        let book = Book::new(1, vec![version(1)], Vec::new());
        let report = rehearse(&book, &import, &list);
        assert_eq!((report.imported, report.unchanged, report.skipped), (1, 0, 3));
        let why: Vec<_> =
            report.models.iter().map(|outcome| outcome.why.as_deref().unwrap_or_default()).collect();
        assert_eq!(
            why,
            [
                "",
                "it stands in the list twice",
                "its version 1 is in force from 1970-01-01T00:00:00.000001Z, and history is not changed",
                "no price"
            ]
        );
    }
}

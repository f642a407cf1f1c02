//! Every price in memory, and which of them a name means. No I/O.
//!
//! A name is looked for as it is written, then as an alias, then with a provider put before it or taken
//! from it, then without a date at its end, and last as a name whose dated forms are known. Each time only
//! a price that is in force at that instant counts. Upper and lower case are the same unless both exist.

use super::names::{self, Dated, dated, folded};
use super::version::PriceVersion;
use kernel::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;

/// A model with all its versions.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its canonical name.
    pub name: Arc<str>,
    /// At least one, the first first; they come into force in the same order.
    pub versions: Vec<PriceVersion>,
}

impl Model {
    /// The version that is in force at an instant; none before the first.
    #[must_use]
    pub fn at(&self, at: Timestamp) -> Option<&PriceVersion> {
        let after = self.versions.partition_point(|version| version.effective_at <= at);
        after.checked_sub(1).map(|last| &self.versions[last])
    }

    /// The newest version, in force or not.
    #[must_use]
    pub fn last(&self) -> Option<&PriceVersion> {
        self.versions.last()
    }

    fn provider(&self) -> Option<&str> {
        self.last().and_then(|version| version.tariff.provider.as_deref())
    }
}

/// Another name of a model, from an instant on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The other name, in lower case.
    pub alias: String,
    /// From when it means the model.
    pub effective_at: Timestamp,
    /// The model's canonical name.
    pub model: Arc<str>,
}

/// The prices as they were at one revision of the database.
#[derive(Debug, Default)]
pub struct Book {
    /// Which revision.
    pub revision: i64,
    /// How many versions of prices there are.
    pub rows: usize,
    /// Sorted by name.
    models: Vec<Model>,
    exact: HashMap<Arc<str>, usize>,
    folded: HashMap<String, usize>,
    /// By the other name, each in the order of its instants.
    aliases: HashMap<String, Vec<Alias>>,
    /// Models whose name begins with their own provider, by the rest of it.
    prefixed: HashMap<String, Vec<usize>>,
    /// Models with a date in their name, by what stands before it, with and without the provider.
    dated: HashMap<String, Vec<usize>>,
}

impl Book {
    /// Puts a book together. Versions may come in any order.
    #[must_use]
    pub fn new(revision: i64, mut versions: Vec<PriceVersion>, mut aliases: Vec<Alias>) -> Self {
        versions.sort_by(|a, b| (&a.model, a.version).cmp(&(&b.model, b.version)));
        let mut book = Self { revision, rows: versions.len(), ..Self::default() };
        for version in versions {
            match book.models.last_mut().filter(|model| model.name == version.model) {
                Some(model) => model.versions.push(version),
                None => {
                    book.models.push(Model { name: Arc::clone(&version.model), versions: vec![version] });
                }
            }
        }
        aliases.sort_by_key(|alias| alias.effective_at);
        for alias in aliases {
            book.aliases.entry(alias.alias.clone()).or_default().push(alias);
        }
        for at in 0..book.models.len() {
            book.index(at);
        }
        book
    }

    fn index(&mut self, at: usize) {
        let model = &self.models[at];
        let key = folded(&model.name);
        self.exact.insert(Arc::clone(&model.name), at);
        self.folded.entry(key.clone()).or_insert(at);
        let own = names::split(&key).filter(|(prefix, _)| names::may_strip(prefix, model.provider()));
        if let Some((_, rest)) = own {
            self.prefixed.entry(rest.to_owned()).or_default().push(at);
        }
        for name in own.map(|(_, rest)| rest).into_iter().chain([&*key]) {
            if let Some(found) = dated(name) {
                self.dated.entry(found.bare.to_owned()).or_default().push(at);
            }
        }
    }

    /// Every model, by name.
    #[must_use]
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// A model by its canonical name.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.exact.get(name).map(|at| &self.models[*at])
    }

    /// What another name meant last, in force or not.
    #[must_use]
    pub fn alias(&self, name: &str) -> Option<&Alias> {
        self.aliases.get(&folded(name)).and_then(|all| all.last())
    }

    /// The other names of a model, by name.
    #[must_use]
    pub fn aliases_of(&self, model: &str) -> Vec<&Alias> {
        let mut found: Vec<&Alias> =
            self.aliases.values().flatten().filter(|alias| &*alias.model == model).collect();
        found.sort_by(|a, b| (&a.alias, a.effective_at).cmp(&(&b.alias, b.effective_at)));
        found
    }

    /// The price that a name means for something that happened at an instant. Nothing where none is known,
    /// and before the first version of a price came into force.
    #[must_use]
    pub fn resolve(&self, model: &str, provider: Option<&str>, at: Timestamp) -> Option<&PriceVersion> {
        let provider = provider.filter(|provider| !provider.is_empty());
        if let Some(version) = self.undated(model, provider, at) {
            return Some(version);
        }
        let key = folded(model);
        let found = dated(&key);
        let same_day = || found.and_then(|found| self.newest(found.bare, provider, at, Some(found.digits())));
        let bare = || found?.bares().find_map(|bare| self.undated(bare, provider, at));
        let bases: Vec<&str> = found.as_ref().map_or_else(|| vec![&*key], |found| found.bares().collect());
        let newest = || bases.iter().find_map(|base| self.newest(base, provider, at, None));
        same_day().or_else(bare).or_else(newest)
    }

    /// A name with its date as it is.
    fn undated(&self, model: &str, provider: Option<&str>, at: Timestamp) -> Option<&PriceVersion> {
        let as_written = self.named(model, at);
        let Some(provider) = provider else {
            return as_written.or_else(|| self.stripped(model, at)).or_else(|| self.only(model, None, at));
        };
        // `gpt-4` of `azure` is `azure/gpt-4`, where that has a price of its own.
        let is_theirs = |found: &&PriceVersion| found.tariff.provider.as_deref() == Some(provider);
        as_written
            .filter(is_theirs)
            .or_else(|| self.named(&format!("{provider}/{model}"), at))
            .or(as_written)
            .or_else(|| self.stripped(model, at))
            .or_else(|| self.only(model, Some(provider), at))
    }

    /// By exactly this name, or this alias.
    fn named(&self, name: &str, at: Timestamp) -> Option<&PriceVersion> {
        let in_force = |at_place: &usize| self.models[*at_place].at(at);
        let exact = || self.exact.get(name).and_then(in_force);
        let key = folded(name);
        let alias = || {
            let meant = self.aliases.get(&key)?.iter().rev().find(|alias| alias.effective_at <= at)?;
            self.exact.get(&meant.model).and_then(in_force)
        };
        exact().or_else(alias).or_else(|| self.folded.get(&key).and_then(in_force))
    }

    /// Without the provider before it, where that is who offers the model.
    fn stripped(&self, name: &str, at: Timestamp) -> Option<&PriceVersion> {
        let (prefix, rest) = names::split(name)?;
        self.named(rest, at).filter(|found| names::may_strip(prefix, found.tariff.provider.as_deref()))
    }

    /// With a provider before it, where only one has it.
    fn only(&self, name: &str, provider: Option<&str>, at: Timestamp) -> Option<&PriceVersion> {
        let found = self.prefixed.get(&folded(name))?;
        let mut offered = found.iter().filter(|place| self.offers(**place, provider));
        match (offered.next(), offered.next()) {
            (Some(place), None) => self.models[*place].at(at),
            _ => None,
        }
    }

    fn offers(&self, place: usize, provider: Option<&str>) -> bool {
        let theirs = self.models[place].provider();
        provider.is_none_or(|wanted| theirs.is_some_and(|theirs| names::same_provider(wanted, theirs)))
    }

    /// The newest dated form of a name, or the one of that day. Names of several providers are none.
    fn newest(
        &self,
        bare: &str,
        provider: Option<&str>,
        at: Timestamp,
        day: Option<String>,
    ) -> Option<&PriceVersion> {
        let places = self.dated.get(bare)?.iter().filter(|place| self.offers(**place, provider));
        let offered = places.filter_map(|place| {
            let model = &self.models[*place];
            let key = folded(&model.name);
            let (rank, digits) = dated(&key).map(|found: Dated<'_>| (found.rank(), found.digits()))?;
            let fits = day.as_ref().is_none_or(|day| *day == digits);
            Some((key.starts_with(bare), rank, model.at(at)?)).filter(|_| fits)
        });
        let mut offered: Vec<_> = offered.collect();
        // A name without a provider goes before those with one.
        if offered.iter().any(|(as_written, ..)| *as_written) {
            offered.retain(|(as_written, ..)| *as_written);
        }
        let theirs = |version: &PriceVersion| version.tariff.provider.clone();
        let first = offered.first().map(|(.., version)| theirs(version))?;
        if offered.iter().any(|(.., version)| theirs(version) != first) {
            return None;
        }
        offered.into_iter().max_by(|a, b| a.1.cmp(&b.1)).map(|(.., version)| version)
    }
}

#[cfg(test)]
mod tests;

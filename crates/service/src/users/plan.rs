//! How changes of users are decided within a batch of the writer.

use super::api::Profile;
use super::{Delete, Ensure, Patch, User};
use crate::credits::ledger::{Facts, Issue, LedgerCommand, Note};
use crate::credits::model::Origin;
use crate::credits::{Account, EntryKind, Source, decide};
use crate::webhooks::EventType;
use crate::webhooks::bodies::{UserEvent, text};
use crate::writer::plan::{Plan, internal};
use crate::writer::{Done, WriteError};
use kernel::{Credits, Timestamp, UserRowId};

impl Plan<'_> {
    /// Makes or refreshes a user.
    ///
    /// # Errors
    /// Why it is refused; nothing of it is to be written then.
    pub fn ensure(&mut self, ensure: &Ensure) -> Result<Done, WriteError> {
        let known = self.working.directory.by_id.get(&ensure.auth0_id).cloned().flatten();
        let fresh = match known {
            Some(_) => UserRowId(0),
            None => UserRowId(self.ids.users.take().map_err(internal)?),
        };
        let user = self.working.directory.ensure(ensure, || fresh, self.now)?;
        if let Some(before) = known {
            if before.deleted_at.is_some() {
                self.close(user.id, false);
            }
            if before == user {
                return Ok(self.user_done(user, false));
            }
            let back = before.deleted_at.is_some();
            self.tell_user(if back { EventType::UserRestored } else { EventType::UserUpdated }, &user);
            return Ok(self.changed_user(before.updated_at, user));
        }
        self.changes.new_users.push(user.clone());
        self.changes.accounts.insert(user.id, None);
        self.working.accounts.insert(user.id, Account::new(user.id, self.now));
        let place = self.changes.events.len();
        if self.rules.welcome > Credits::ZERO {
            self.welcome(user.id)?;
        }
        let given = self.changes.events.len();
        self.tell_user(EventType::UserCreated, &user);
        // Whoever is told hears of the user before it hears of its credits.
        let told = self.changes.events.len() - given;
        self.changes.events[place..].rotate_right(told);
        Ok(self.user_done(user, true))
    }

    /// Changes a user.
    ///
    /// # Errors
    /// Why it is refused; nothing of it is to be written then.
    pub fn patch(&mut self, patch: &Patch) -> Result<Done, WriteError> {
        let before = self.working.directory.live(&patch.auth0_id)?.clone();
        let user = self.working.directory.patch(patch, self.now)?;
        if user != before {
            self.tell_user(EventType::UserUpdated, &user);
        }
        Ok(self.changed_user(before.updated_at, user))
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// Why it is refused; nothing of it is to be written then.
    pub fn delete(&mut self, delete: &Delete) -> Result<Done, WriteError> {
        let read = self.working.directory.live(&delete.auth0_id)?.updated_at;
        let user = self.working.directory.delete(delete, self.now)?;
        self.close(user.id, true);
        self.tell_user(EventType::UserDeleted, &user);
        Ok(self.changed_user(read, user))
    }

    /// Notes what became of a user.
    fn tell_user(&mut self, kind: EventType, user: &User) {
        let account = self.working.accounts.get(&user.id);
        let available = account.map_or(Credits::ZERO, |account| account.available(self.now));
        let credits_total = account.map_or(Credits::ZERO, |account| account.credits_total);
        self.changes.tell(self.wanted, (kind, user.id, self.now), || {
            text(&UserEvent { data: Profile::new(user.clone(), available, credits_total) })
        });
    }

    fn welcome(&mut self, user: UserRowId) -> Result<(), WriteError> {
        let command = LedgerCommand::Issue(Issue {
            kind: EntryKind::Grant,
            amount: self.rules.welcome,
            source: Source::Signup,
            priority: 0,
            effective_at: None,
            expires_at: self.rules.welcome_life.map(|life| self.now.plus(life)),
            scope: None,
            rollover: None,
            reference_id: None,
            note: Note {
                description: Some("Welcome credits".to_owned()),
                origin: Origin { actor: "system".to_owned(), ..Origin::default() },
                ..Note::default()
            },
        });
        if let Some(account) = self.working.accounts.get_mut(&user) {
            // The user stands already, so a refusal here must stop the batch.
            let decision = decide(account, &command, &Facts::default(), self.now, self.rules.ledger)
                .map_err(|why| WriteError::Internal(format!("the welcome grant was refused: {why}")))?;
            self.write(user, None, decision, None).map_err(internal)?;
        }
        Ok(())
    }

    fn close(&mut self, user: UserRowId, closed: bool) {
        if let Some(account) = self.working.accounts.get_mut(&user) {
            self.changes.accounts.entry(user).or_insert(Some(account.version));
            account.closed = closed;
        }
    }

    fn changed_user(&mut self, read: Timestamp, user: User) -> Done {
        match self.changes.new_users.iter_mut().find(|other| other.id == user.id) {
            Some(new) => *new = user.clone(),
            None => self.changes.users.entry(user.id).or_insert((read, user.clone())).1 = user.clone(),
        }
        self.user_done(user, false)
    }

    fn user_done(&self, user: User, created: bool) -> Done {
        let account = self.working.accounts.get(&user.id);
        Done::User {
            created,
            available: account.map_or(Credits::ZERO, |account| account.available(self.now)),
            credits_total: account.map_or(Credits::ZERO, |account| account.credits_total),
            user: Box::new(user),
        }
    }
}

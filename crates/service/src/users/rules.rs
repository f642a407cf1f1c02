//! The rules for making, changing and deleting users. Pure.

use super::User;
use kernel::{Email, ExternalId, Name, Timestamp, UserRowId};
use std::collections::HashMap;

/// Make the user if there is none, else refresh its name and e-mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensure {
    /// Who.
    pub auth0_id: ExternalId,
    /// The address, unless unknown.
    pub email: Option<Email>,
    /// The name, unless unknown.
    pub name: Option<Name>,
}

/// Change a user's name or e-mail; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Who.
    pub auth0_id: ExternalId,
    /// The new address.
    pub email: Option<Email>,
    /// The new name.
    pub name: Option<Name>,
}

/// Delete a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// Who.
    pub auth0_id: ExternalId,
}

/// Why a user is not made or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is no such user.
    #[error("User not found: {0}")]
    NotFound(ExternalId),
    /// The address is another user's.
    #[error("email: the address belongs to another user")]
    EmailTaken,
}

/// The users that a batch of commands is about.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// By external id; `None` is known to be absent.
    pub by_id: HashMap<ExternalId, Option<User>>,
    /// Which live user has an address, by its folded form.
    pub by_email: HashMap<String, UserRowId>,
}

impl Directory {
    /// The live user of that id.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub fn live(&self, id: &ExternalId) -> Result<&User, Rejection> {
        self.by_id
            .get(id)
            .and_then(Option::as_ref)
            .filter(|user| user.deleted_at.is_none())
            .ok_or_else(|| Rejection::NotFound(id.clone()))
    }

    /// The user after `ensure`, made with `fresh_id` if there is none.
    ///
    /// # Errors
    /// [`Rejection::EmailTaken`]; then nothing has changed.
    pub fn ensure(
        &mut self,
        ensure: &Ensure,
        fresh_id: impl FnOnce() -> UserRowId,
        now: Timestamp,
    ) -> Result<User, Rejection> {
        let known = self.by_id.get(&ensure.auth0_id).and_then(Option::as_ref);
        self.email_is_free(ensure.email.as_ref(), known.map(|user| user.id))?;
        let mut user = match known {
            Some(user) => user.clone(),
            None => User {
                id: fresh_id(),
                auth0_id: ensure.auth0_id.clone(),
                email: None,
                name: None,
                plan: "free".to_owned(),
                subscription_status: "free".to_owned(),
                is_active: true,
                created_at: now,
                updated_at: now,
                deleted_at: None,
            },
        };
        if user.deleted_at.take().is_some() {
            // Someone may have taken the address meanwhile; the one who comes back goes without it.
            let kept = user.email.as_deref().and_then(|email| Email::new(email).ok());
            if self.email_is_free(kept.as_ref(), Some(user.id)).is_err() {
                user.email = None;
            }
            // Coming back is a change, whatever else is: the next writer must see that it read too early.
            user.updated_at = now;
        }
        self.write(user, ensure.email.as_ref(), ensure.name.as_ref(), now)
    }

    /// The user after `patch`.
    ///
    /// # Errors
    /// A [`Rejection`]; then nothing has changed.
    pub fn patch(&mut self, patch: &Patch, now: Timestamp) -> Result<User, Rejection> {
        let user = self.live(&patch.auth0_id)?.clone();
        self.email_is_free(patch.email.as_ref(), Some(user.id))?;
        self.write(user, patch.email.as_ref(), patch.name.as_ref(), now)
    }

    /// The user after `delete`; its address is free from now on.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub fn delete(&mut self, delete: &Delete, now: Timestamp) -> Result<User, Rejection> {
        let mut user = self.live(&delete.auth0_id)?.clone();
        user.deleted_at = Some(now);
        user.updated_at = now;
        self.by_email.retain(|_, owner| *owner != user.id);
        self.by_id.insert(user.auth0_id.clone(), Some(user.clone()));
        Ok(user)
    }

    fn email_is_free(&self, email: Option<&Email>, user: Option<UserRowId>) -> Result<(), Rejection> {
        let owner = email.and_then(|email| self.by_email.get(&email.folded()));
        if owner.is_some_and(|owner| Some(*owner) != user) { Err(Rejection::EmailTaken) } else { Ok(()) }
    }

    fn write(
        &mut self,
        mut user: User,
        email: Option<&Email>,
        name: Option<&Name>,
        now: Timestamp,
    ) -> Result<User, Rejection> {
        let before = user.clone();
        user.email = email.map(|email| email.as_str().to_owned()).or(user.email);
        user.name = name.map(|name| name.as_str().to_owned()).or(user.name);
        if user != before {
            user.updated_at = now;
        }
        if let Some(email) = &user.email {
            self.by_email.retain(|_, owner| *owner != user.id);
            self.by_email.insert(email.to_lowercase(), user.id);
        }
        self.by_id.insert(user.auth0_id.clone(), Some(user.clone()));
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1);
    const LATER: Timestamp = Timestamp::from_micros(2);

    fn ensure(id: &str, email: &str) -> Ensure {
        Ensure {
            auth0_id: id.parse().expect("an id"),
            email: Some(Email::new(email).expect("an address")),
            name: Some(Name::new("Ada").expect("a name")),
        }
    }

    #[test]
    fn ensure_makes_a_user_once_and_then_refreshes_it() {
        let mut directory = Directory::default();
        let made = directory.ensure(&ensure("a", "a@x.de"), || UserRowId(1), NOW).expect("made");
        assert_eq!((made.id, made.created_at), (UserRowId(1), NOW));
        let again = directory.ensure(&ensure("a", "a@x.de"), || UserRowId(2), LATER).expect("same");
        assert_eq!(again, made, "nothing changed, so nothing moved");
        let moved = directory.ensure(&ensure("a", "b@x.de"), || UserRowId(2), LATER).expect("moved");
        assert_eq!(
            (moved.id, moved.email.as_deref(), moved.updated_at),
            (UserRowId(1), Some("b@x.de"), LATER)
        );
    }

    #[test]
    fn an_address_has_one_owner_whatever_its_case() {
        let mut directory = Directory::default();
        directory.ensure(&ensure("a", "a@x.de"), || UserRowId(1), NOW).expect("made");
        let taken = directory.ensure(&ensure("b", "A@X.de"), || UserRowId(2), NOW);
        assert_eq!(taken, Err(Rejection::EmailTaken));
        let patch = Patch {
            auth0_id: "a".parse().expect("an id"),
            email: Some(Email::new("c@x.de").expect("one")),
            name: None,
        };
        directory.patch(&patch, NOW).expect("patched");
        directory.ensure(&ensure("b", "a@x.de"), || UserRowId(2), NOW).expect("free again");
    }

    #[test]
    fn a_deleted_user_is_gone_and_can_come_back_without_its_lost_address() {
        let mut directory = Directory::default();
        directory.ensure(&ensure("a", "a@x.de"), || UserRowId(1), NOW).expect("made");
        let delete = Delete { auth0_id: "a".parse().expect("an id") };
        directory.delete(&delete, NOW).expect("deleted");
        assert_eq!(directory.delete(&delete, NOW), Err(Rejection::NotFound(delete.auth0_id.clone())));
        directory.ensure(&ensure("b", "a@x.de"), || UserRowId(2), NOW).expect("the address is free");
        let back = Ensure { auth0_id: delete.auth0_id, email: None, name: None };
        let back = directory.ensure(&back, || UserRowId(3), LATER).expect("back");
        assert_eq!((back.id, back.email, back.deleted_at), (UserRowId(1), None, None));
    }
}

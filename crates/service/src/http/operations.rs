//! What the document says of each route, for whoever acts on it: its name, the scopes that it needs, and its class.

use crate::audit::{ASKS, AUDITED, READS};
use crate::auth::Scopes;
use crate::http::docs::{is_page, is_public};
use crate::mcp;
use crate::rate_limits::Class;
use axum::http::Method;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::Operation;

/// A route as the document names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its operation id.
    pub name: Arc<str>,
    /// The scopes that a service key needs, all of them; absent where no key may call it.
    pub scopes: Option<Scopes>,
    /// What kind of work it is, for the limits of rates.
    pub class: Class,
    /// Whose use of it is written down.
    pub audited: Audited,
}

/// Whose use of a route is written down in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audited {
    /// Nobody's.
    Nobody,
    /// That of admins: what they do with users' own things, which service keys do all day.
    Admins,
    /// That of service keys as well.
    KeysAndAdmins,
}

/// Whose use of a route is written down, by its name, the scopes that a key needs, and its method.
fn audited(name: &str, scopes: Option<Scopes>, method: &Method) -> Audited {
    let Some(scopes) = scopes else { return Audited::Nobody };
    let changes = *method != Method::GET;
    let of_keys = AUDITED.iter().any(|scope| scopes.contains(*scope)) || *method == Method::DELETE;
    match () {
        () if READS.contains(&name) || (changes && of_keys) => Audited::KeysAndAdmins,
        () if changes && !ASKS.contains(&name) => Audited::Admins,
        () => Audited::Nobody,
    }
}

/// The routes, by path and method.
#[derive(Debug, Default)]
pub struct Operations(HashMap<String, Vec<(Method, Known)>>);

impl Operations {
    /// Reads them from the document.
    #[must_use]
    pub fn of(document: &OpenApi) -> Self {
        let mut routes = HashMap::new();
        for (path, item) in &document.paths.paths {
            let methods = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            let known = methods.into_iter().filter_map(|(method, operation)| {
                let known = known(&method, operation.as_ref()?)?;
                Some((method, known))
            });
            routes.insert(path.clone(), known.collect());
        }
        Self(routes)
    }

    /// The operation behind a method and a route's template.
    #[must_use]
    pub fn find(&self, method: &Method, route: &str) -> Option<&Known> {
        // A path that takes any number of steps has a name of its own in the router's language.
        let path = if route.contains("{*") { route.replace("{*", "{").into() } else { Cow::Borrowed(route) };
        // A route of GET answers HEAD as well.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let methods = self.0.get(&*path)?;
        methods.iter().find(|(known, _)| known == method).map(|(_, known)| known)
    }

    /// What kind of work it is; pages of the documentation cost nothing worth counting.
    #[must_use]
    pub fn class(&self, method: &Method, route: &str) -> Class {
        match self.find(method, route) {
            Some(known) => known.class,
            None if is_page(route) => Class::Exempt,
            // Whoever speaks this protocol proves who it is, and what it asks for is counted as what it is.
            None if route == mcp::ROUTE => Class::Read,
            None => Class::Public,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self, method: &Method, route: &str) -> Option<&str> {
        self.find(method, route).map(|known| &*known.name)
    }
}

fn known(method: &Method, operation: &Operation) -> Option<Known> {
    let name = operation.operation_id.as_deref()?;
    let class = Class::of(method, name, is_public(operation));
    // The document's own type keeps its scopes to itself, so they are read as it is written.
    let security = serde_json::to_value(&operation.security).unwrap_or_default();
    let of_keys = security.as_array().into_iter().flatten().find_map(|one| one["service_key"].as_array());
    let scopes: Option<Scopes> =
        of_keys.map(|scopes| scopes.iter().filter_map(|scope| scope.as_str()?.parse().ok()).collect());
    Some(Known { name: name.into(), scopes, class, audited: audited(name, scopes, method) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::router;

    #[test]
    fn what_gives_changes_or_is_for_operators_is_audited_and_what_spends_is_not() {
        let (_, document) = router::table();
        let operations = Operations::of(&document);
        let audited = |method: Method, path: &str| {
            let found = operations.find(&method, path).expect(path);
            found.audited
        };
        for (method, path) in [
            (Method::POST, "/api/v1/users/{user_id}/credits/grants"),
            (Method::POST, "/api/v1/users/{user_id}/credits/recharge"),
            (Method::PUT, "/api/v1/users/{user_id}/limits"),
            (Method::PUT, "/api/v1/prices/{*model}"),
            (Method::POST, "/api/v1/admin/ledger/verify"),
            (Method::DELETE, "/api/v1/users/{user_id}"),
            (Method::POST, "/api/v1/users/{user_id}/suspend"),
            (Method::GET, "/api/v1/users/{user_id}/export"),
            (Method::DELETE, "/api/v1/sessions/{session_id}"),
            (Method::DELETE, "/api/v1/users/{user_id}/files"),
        ] {
            assert_eq!(audited(method, path), Audited::KeysAndAdmins, "{path}");
        }
        for (method, path) in [
            (Method::POST, "/api/v1/users/{user_id}/credits/consume"),
            (Method::POST, "/api/v1/users/{user_id}/charges"),
            (Method::POST, "/api/v1/users/{user_id}/usage"),
            (Method::POST, "/api/v1/sessions/{session_id}/messages"),
        ] {
            assert_eq!(audited(method, path), Audited::Admins, "{path}");
        }
        for (method, path) in [
            (Method::POST, "/api/v1/noop"),
            (Method::POST, "/api/v1/users/{user_id}/limits/check"),
            (Method::GET, "/api/v1/admin/stripe/events"),
            (Method::POST, "/api/v1/payments/portal"),
        ] {
            assert_eq!(audited(method, path), Audited::Nobody, "{path}");
        }
        assert!(operations.find(&Method::POST, "/api/v1/nothing").is_none());
    }
}

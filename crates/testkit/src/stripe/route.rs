//! Which paths there are, what each takes, and the lists.

use super::error::Refusal;
use super::params::Params;
use super::world::{Answer, World, int, text};
use super::{checkout, customers, intents, invoices, refunds, subscriptions};
use serde_json::{Value, json};

/// What lists take beside their filters.
const PAGE: &[&str] = &["limit", "starting_after", "ending_before"];
/// How an instant may be bounded.
const INSTANT: &[&str] = &["created", "created[gte]", "created[gt]", "created[lte]", "created[lt]"];
/// How many rows a list gives when it is not told.
const ROWS: i64 = 10;
/// How many it gives at most.
const ROWS_MAX: i64 = 100;

/// One request to a route.
pub(super) struct Call {
    /// The path, such as `/v1/customers`.
    pub(super) path: String,
    /// What stood in the path's place.
    pub(super) id: String,
    pub(super) params: Params,
}

/// A path with its method and what it does.
pub(super) struct Route {
    method: &'static str,
    path: &'static str,
    required: &'static [&'static str],
    allowed: &'static [&'static str],
    lists: bool,
    pub(super) act: fn(&mut World, &Call) -> Answer,
}

impl Route {
    pub(super) const fn get(path: &'static str, act: fn(&mut World, &Call) -> Answer) -> Self {
        Self { method: "GET", path, required: &[], allowed: &[], lists: false, act }
    }

    pub(super) const fn list(
        path: &'static str,
        filters: &'static [&'static str],
        act: fn(&mut World, &Call) -> Answer,
    ) -> Self {
        Self { method: "GET", path, required: &[], allowed: filters, lists: true, act }
    }

    pub(super) const fn change(
        (method, path): (&'static str, &'static str),
        required: &'static [&'static str],
        allowed: &'static [&'static str],
        act: fn(&mut World, &Call) -> Answer,
    ) -> Self {
        Self { method, path, required, allowed, lists: false, act }
    }

    /// Refuses parameters that are too many or too few.
    pub(super) fn check(&self, params: &Params) -> Result<(), Refusal> {
        if !self.lists {
            return params.check(self.allowed, self.required);
        }
        let allowed: Vec<&str> = [self.allowed, PAGE, INSTANT].concat();
        params.check(&allowed, self.required)
    }

    /// The id in the path, if this is the route: `customers/{id}`.
    fn fits(&self, method: &str, path: &str) -> Option<String> {
        let (mut wanted, mut found) = (self.path.split('/'), path.split('/'));
        let mut id = String::new();
        loop {
            match (wanted.next(), found.next()) {
                (None, None) => return (self.method == method).then_some(id),
                (Some("{id}"), Some(part)) if !part.is_empty() => part.clone_into(&mut id),
                (Some(wanted), Some(found)) if wanted == found => {}
                _ => return None,
            }
        }
    }
}

/// The route of a request and the id in its path.
pub(super) fn find(method: &str, path: &str) -> Result<(&'static Route, String), Refusal> {
    let tables = [
        customers::ROUTES,
        checkout::ROUTES,
        intents::ROUTES,
        subscriptions::ROUTES,
        invoices::ROUTES,
        refunds::ROUTES,
        EVENTS,
    ];
    let inner = path.strip_prefix("/v1/").unwrap_or_default();
    let mut routes = tables.into_iter().flatten();
    routes.find_map(|route| Some((route, route.fits(method, inner)?))).ok_or_else(|| {
        Refusal::new(404, "invalid_request_error", format!("Unrecognized request URL ({method}: {path})."))
    })
}

const EVENTS: &[Route] = &[
    Route::get("events/{id}", |world, call| world.get("event", &call.id).cloned()),
    Route::list("events", &["type", "types[#]"], |world, call| {
        let types = call.params.map("types");
        list(world, call, "event", &[("type", "/type")], |event| {
            types.is_empty() || types.values().any(|kind| *kind == event["type"])
        })
    }),
];

/// A page of a kind's objects, newest first: those that match the filters that are given, each a
/// parameter and where its value stands in the object, and that fit.
pub(super) fn list(
    world: &World,
    call: &Call,
    kind: &str,
    filters: &[(&str, &str)],
    fits: impl Fn(&Value) -> bool,
) -> Answer {
    let params = &call.params;
    let limit = params.int("limit")?.unwrap_or(ROWS);
    if !(1..=ROWS_MAX).contains(&limit) {
        return Err(Refusal::invalid("Invalid limit: must be between 1 and 100").param("limit"));
    }
    let mut bounds = Vec::new();
    for name in INSTANT {
        if let Some(bound) = params.int(name)? {
            bounds.push((*name, bound));
        }
    }
    let within = |object: &Value| {
        let created = int(&object["created"]);
        bounds.iter().all(|(name, bound)| match *name {
            "created[gte]" => created >= *bound,
            "created[gt]" => created > *bound,
            "created[lte]" => created <= *bound,
            "created[lt]" => created < *bound,
            _ => created == *bound,
        })
    };
    let matches = |object: &Value| {
        filters.iter().all(|(param, place)| {
            params.text(param).is_none_or(|wanted| object.pointer(place).is_some_and(|found| found == wanted))
        })
    };
    let mut rows: Vec<&Value> =
        world.all(kind).rev().filter(|object| within(object) && matches(object) && fits(object)).collect();
    if let Some(last) = params.text("starting_after") {
        world.named(kind, last, "starting_after")?;
        rows = after(world, kind, last, &rows);
    }
    let limit = limit as usize;
    let has_more = if let Some(first) = params.text("ending_before") {
        world.named(kind, first, "ending_before")?;
        let newer = rows.iter().position(|row| row["id"] == first).unwrap_or(rows.len());
        rows.truncate(newer);
        rows.drain(..newer.saturating_sub(limit));
        newer > limit
    } else {
        rows.len() > limit
    };
    rows.truncate(limit);
    Ok(json!({"object": "list", "url": call.path, "has_more": has_more, "data": rows}))
}

/// The rows that are older than an object, which need not be one of them.
fn after<'a>(world: &World, kind: &str, last: &str, rows: &[&'a Value]) -> Vec<&'a Value> {
    let older: Vec<String> =
        world.all(kind).map(|object| text(&object["id"])).take_while(|id| id != last).collect();
    let older: std::collections::HashSet<String> = older.into_iter().collect();
    rows.iter().copied().filter(|row| row["id"].as_str().is_some_and(|id| older.contains(id))).collect()
}

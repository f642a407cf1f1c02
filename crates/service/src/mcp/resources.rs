//! A user's profile and balance as resources: `user://{auth0_id}/profile` and `user://{auth0_id}/balance`.

use super::PLAIN;
use super::tools::Tools;
use crate::auth::grants::Caller;
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use rmcp::model::{Resource, ResourceTemplate};

/// What resources are.
pub const KIND: &str = "application/json";

/// A kind of resource: its name, its name for people, what it is, and the tool that reads the same.
pub struct Kind {
    /// The last part of its address.
    pub name: &'static str,
    /// The tool that answers the same.
    pub tool: &'static str,
    title: &'static str,
    about: &'static str,
}

/// Both kinds.
pub const KINDS: [Kind; 2] = [
    Kind {
        name: "profile",
        tool: "user_get_info",
        title: "Profile",
        about: "Who a user is: e-mail, name, plan, credits left.",
    },
    Kind {
        name: "balance",
        tool: "credits_balance",
        title: "Balance",
        about: "What a user can spend now, what is held, and which credits expire when.",
    },
];

/// The kinds that a caller may read at all.
fn readable<'a>(tools: &'a Tools, caller: &'a Caller) -> impl Iterator<Item = &'static Kind> + 'a {
    KINDS.iter().filter(|kind| tools.find(kind.tool).is_some_and(|tool| caller.may_call(&tool.known)))
}

/// The resources that a caller has itself: a user its own, a program none.
#[must_use]
pub fn own(tools: &Tools, caller: &Caller) -> Vec<Resource> {
    let Some(user) = caller.subject() else { return Vec::new() };
    let user = utf8_percent_encode(user.as_str(), &PLAIN);
    let resource = |kind: &Kind| {
        Resource::new(format!("user://{user}/{}", kind.name), kind.name)
            .with_title(kind.title)
            .with_description(kind.about)
            .with_mime_type(KIND)
    };
    readable(tools, caller).map(resource).collect()
}

/// The addresses of every user's, for whoever may read them.
#[must_use]
pub fn templates(tools: &Tools, caller: &Caller) -> Vec<ResourceTemplate> {
    let template = |kind: &Kind| {
        ResourceTemplate::new(format!("user://{{auth0_id}}/{}", kind.name), kind.name)
            .with_title(kind.title)
            .with_description(format!("{} The pipe of an id is written `%7C`.", kind.about))
            .with_mime_type(KIND)
    };
    readable(tools, caller).map(template).collect()
}

/// The kind and the user that an address names.
#[must_use]
pub fn named(address: &str) -> Option<(&'static Kind, String)> {
    let (user, name) = address.strip_prefix("user://")?.rsplit_once('/')?;
    let kind = KINDS.iter().find(|kind| kind.name == name)?;
    let user = percent_decode_str(user).decode_utf8().ok()?;
    (!user.is_empty() && !user.contains('/')).then(|| (kind, user.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_user_with_its_pipe_raw_or_encoded() {
        for address in ["user://auth0|test123/balance", "user://auth0%7Ctest123/balance"] {
            let (kind, user) = named(address).expect(address);
            assert_eq!((kind.name, user.as_str()), ("balance", "auth0|test123"));
        }
        for odd in [
            "user://balance",
            "user:///balance",
            "user://a/b/balance",
            "user://a/secrets",
            "file:///etc/passwd",
            "user://%ff/balance",
            "",
        ] {
            assert!(named(odd).is_none(), "{odd}");
        }
    }
}

//! What an endpoint asks for: names of events, families of them, or everything.

use super::EventType;
use super::model::EVENT_TYPES_MAX;
use std::collections::BTreeSet;

/// The kinds that one name of a list stands for; none where there are none.
fn kinds(name: &str) -> impl Iterator<Item = EventType> {
    let family = name.strip_suffix('*').filter(|family| family.is_empty() || family.ends_with('.'));
    let all = EventType::ALL.iter().copied();
    all.filter(move |kind| {
        kind.as_str() == name || family.is_some_and(|family| kind.as_str().starts_with(family))
    })
}

/// The kinds that a list stands for. Names that no kind has any more stand for none.
#[must_use]
pub fn spelled_out(names: &[String]) -> BTreeSet<EventType> {
    names.iter().flat_map(|name| kinds(name)).collect()
}

/// Takes a list as a caller gives it, of which some may be cut off.
///
/// # Errors
/// The rule that it breaks.
pub fn check(names: &[String], count: usize) -> Result<(), String> {
    if !(1..=EVENT_TYPES_MAX).contains(&count) {
        return Err(format!("must be 1 to {EVENT_TYPES_MAX} names"));
    }
    match names.iter().find(|name| kinds(name).next().is_none()) {
        None => Ok(()),
        Some(unknown) => {
            let families: BTreeSet<String> = EventType::ALL
                .iter()
                .filter_map(|kind| kind.as_str().split_once('.').map(|(family, _)| format!("{family}.*")))
                .collect();
            let families = families.into_iter().collect::<Vec<_>>().join(", ");
            Err(format!("{unknown:?} must be an event type such as credit.consumed, one of {families}, or *"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn families_and_everything_are_spelled_out() {
        let one = spelled_out(&names(&["credit.consumed", "credit.consumed", "credit.stolen"]));
        assert_eq!(one.into_iter().collect::<Vec<_>>(), [EventType::CreditConsumed]);
        let family = spelled_out(&names(&["credit.*"]));
        assert!(
            family.contains(&EventType::CreditExpired) && !family.contains(&EventType::AlertWebhookDisabled)
        );
        assert_eq!(spelled_out(&names(&["*"])).len(), EventType::ALL.len());
    }

    #[test]
    fn what_no_event_is_called_is_refused() {
        assert_eq!(check(&names(&["*", "alert.*", "credit.granted"]), 3), Ok(()));
        for bad in [
            "",
            "credit",
            "credit.",
            "cred*",
            "*.consumed",
            "credit.stolen",
            "CREDIT.CONSUMED",
            "credit_consumed",
            "**",
        ] {
            let refused = check(&names(&[bad]), 1).expect_err(bad);
            assert!(refused.contains("credit.*"), "{bad}: {refused}");
        }
        assert!(check(&[], 0).is_err() && check(&names(&["*"]), 101).is_err());
    }
}

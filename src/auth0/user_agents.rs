//! The user agents of a page of sessions, for the page on which a person chooses sessions to end. No check needs them, so they are
//! read apart from the sessions, from the same body.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use crate::loose_json::{Keep, Loose};

/// The longest user agent that is kept. Those of browsers have 100 to 250 bytes.
const MAX_USER_AGENT_BYTES: usize = 1_024;

/// The user agent that last used each session, by the id of the session.
pub type UserAgents = HashMap<String, String>;

/// Reads the user agents of a page. A body that is no page of sessions has none.
pub(super) fn read(body: &[u8]) -> UserAgents {
    let mut agents = UserAgents::new();
    let Loose(Page(sessions)) = serde_json::from_slice(body).unwrap_or_default();
    for SessionDevice { id, device } in sessions {
        if let Some(user_agent) = device.last.or(device.initial) {
            agents.entry(id).or_insert(user_agent);
        }
    }
    agents
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum DeviceKey {
    Sessions,
    Id,
    Device,
    LastUserAgent,
    InitialUserAgent,
    #[serde(other)]
    Other,
}

#[derive(Default)]
struct Page(Vec<SessionDevice>);

/// A session and its device. A session without an id is left out.
#[derive(Default)]
struct SessionDevice {
    id: String,
    device: Device,
}

/// The user agents that a device had last and first.
#[derive(Default)]
struct Device {
    last: Option<String>,
    initial: Option<String>,
}

#[derive(Default)]
struct Sessions(Vec<SessionDevice>);

/// A string of bounded length.
#[derive(Default)]
struct Text(Option<String>);

impl<'de> Keep<'de> for Text {
    fn text(text: Cow<'de, str>) -> Self {
        Self((!text.is_empty() && text.len() <= MAX_USER_AGENT_BYTES).then(|| text.into_owned()))
    }
}

impl<'de> Keep<'de> for Page {
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut page = Self::default();
        while let Some(key) = object.next_key()? {
            match key {
                DeviceKey::Sessions => page.0 = object.next_value::<Loose<Sessions>>()?.0.0,
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(page)
    }
}

impl<'de> Keep<'de> for Sessions {
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut sessions = Vec::new();
        while let Some(Loose(session)) = list.next_element::<Loose<SessionDevice>>()? {
            sessions.extend((!session.id.is_empty()).then_some(session));
        }
        Ok(Self(sessions))
    }
}

impl<'de> Keep<'de> for SessionDevice {
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut session = Self::default();
        while let Some(key) = object.next_key()? {
            match key {
                DeviceKey::Id => session.id = object.next_value::<Loose<Text>>()?.0.0.unwrap_or_default(),
                DeviceKey::Device => session.device = object.next_value::<Loose<Device>>()?.0,
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(session)
    }
}

impl<'de> Keep<'de> for Device {
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut device = Self::default();
        while let Some(key) = object.next_key()? {
            match key {
                DeviceKey::LastUserAgent => device.last = object.next_value::<Loose<Text>>()?.0.0,
                DeviceKey::InitialUserAgent => device.initial = object.next_value::<Loose<Text>>()?.0.0,
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Vec<(String, String)> {
        let mut agents: Vec<_> = read(body.as_bytes()).into_iter().collect();
        agents.sort();
        agents
    }

    #[test]
    fn last_user_agent_comes_before_the_first_one() {
        let body = r#"{"sessions":[
            {"id":"a","device":{"initial_user_agent":"one","last_user_agent":"two"}},
            {"id":"b","device":{"initial_user_agent":"three","last_user_agent":null}},
            {"device":{"last_user_agent":"of nobody"},"id":""},
            {"id":"a","device":{"last_user_agent":"listed again"}}],"next":"x"}"#;
        assert_eq!(of(body), [("a".to_owned(), "two".to_owned()), ("b".to_owned(), "three".to_owned())]);
    }

    #[test]
    fn odd_shapes_have_no_user_agent() {
        let long = format!(r#"{{"sessions":[{{"id":"a","device":{{"last_user_agent":"{}"}}}}]}}"#, "x".repeat(2_000));
        for body in [
            "",
            "[]",
            "{}",
            r#"{"sessions":7}"#,
            r#"{"sessions":[null,1,"x",[],{"id":1},{"id":"a","device":[]}]}"#,
            r#"{"sessions":[{"id":"a","device":{"last_user_agent":{"x":1}}}]}"#,
            &long,
        ] {
            assert_eq!(of(body), [], "{body}");
        }
    }
}

//! Logins that the Action has sent to the page for choosing sessions. They wait for a choice, and continue after it as at
//! Auth0's `/continue`.

use std::collections::HashSet;

use rand::distr::{Alphanumeric, SampleString};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, COOKIE, ORIGIN, SET_COOKIE};
use url::{Url, form_urlencoded};

use super::{BegunLogin, ScenarioRun};
use crate::choose::{self, Chooser};
use crate::scenario::{DeviceSession, OnDevice, PageChoice, ScenarioEvent, ScenarioStep};

/// The length of a state.
const STATE_LENGTH: usize = 32;

/// A login that waits for a choice.
pub(super) struct WaitingLogin {
    begun: BegunLogin,
    /// The address of the page, with the state.
    page: String,
    /// The state that Auth0 gives the redirected login.
    state: String,
}

impl ScenarioRun {
    /// Lets the login with this state continue, after its person has used the page. Returns `false` when none waits with it.
    pub async fn resume(&mut self, state: &str) -> bool {
        let Some(choice) = self.made_choice(state) else { return false };
        self.play_step(ScenarioStep { event: ScenarioEvent::Choose(choice), expect: None }, true).await;
        true
    }

    /// The page at which a login of this browser waits.
    pub(super) fn page_of(&self, at: &OnDevice) -> Option<String> {
        self.waiting.get(at).map(|waiting| waiting.page.clone())
    }

    /// Keeps a login until its person has chosen.
    pub(super) fn wait(&mut self, begun: BegunLogin, page: &str) {
        let state = Alphanumeric.sample_string(&mut rand::rng(), STATE_LENGTH);
        let page = format!("{page}&state={state}");
        self.waiting.insert(begun.sign_in.at.clone(), WaitingLogin { begun, page, state });
    }

    /// The login that waits in this browser, as it continues.
    pub(super) fn take_waiting(&mut self, at: &OnDevice) -> Option<BegunLogin> {
        let mut begun = self.waiting.remove(at)?.begun;
        begun.request["continued"] = true.into();
        Some(begun)
    }

    /// What the person of this state did on the page: the sessions that have ended since the last step.
    fn made_choice(&self, state: &str) -> Option<PageChoice> {
        let (at, _) = self.waiting.iter().find(|(_, waiting)| waiting.state == state)?;
        let person = self.scenario.person(&at.person)?;
        let sessions = self.setup.tenant.sessions_of(&person.user_id);
        let living: HashSet<&str> = sessions.iter().map(simulator::Session::id).collect();
        let lanes = self.lanes.all().iter().filter(|lane| lane.person == person.name);
        let ended = lanes.filter(|lane| lane.ended.is_none() && !living.contains(lane.id.as_str()));
        let ended = ended.map(|lane| {
            let earlier = self.sessions_on(&person.name, &lane.device).take_while(|sid| *sid != lane.id);
            DeviceSession { device: lane.device.clone(), number: earlier.count() + 1 }
        });
        Some(PageChoice { at: at.clone(), ended: ended.collect() })
    }

    /// The sessions that began on a device, also those that ended.
    fn sessions_on(&self, person: &str, device: &str) -> impl Iterator<Item = &str> {
        let lanes = self.lanes.all().iter().filter(move |lane| lane.person == person && lane.device == device);
        lanes.map(|lane| lane.id.as_str())
    }

    /// Opens the page and sends the form, as the browser of the person does.
    ///
    /// # Errors
    /// What the page did not accept, for people.
    pub(super) async fn send_choice(&self, choice: &PageChoice) -> Result<(), String> {
        let waiting = self.waiting.get(&choice.at).ok_or("No login waits there for a choice.")?;
        let chooser = self.setup.chooser.as_ref().ok_or("The service has no page.")?;
        let failed = |error: reqwest::Error| format!("The page does not answer: {}.", error.without_url());
        let shown = self.http.get(&waiting.page).send().await.map_err(failed)?;
        let cookie = shown.headers().get(SET_COOKIE).and_then(|cookie| cookie.to_str().ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next()).unwrap_or_default().to_owned();
        let browser = cookie.split_once('=').map_or("", |(_, value)| value);
        let form = self.form(choice, waiting, chooser, browser)?;
        let request = self.http.post(format!("{}{}", chooser.origin(), choose::PATH));
        let request = request.header(ORIGIN, chooser.origin()).header(COOKIE, &cookie);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        match request.send().await.map_err(failed)?.status() {
            StatusCode::OK => Ok(()),
            status => Err(format!("The page did not accept the choice ({status}).")),
        }
    }

    /// The form of the page with a choice.
    fn form(
        &self,
        choice: &PageChoice,
        waiting: &WaitingLogin,
        chooser: &Chooser,
        browser: &str,
    ) -> Result<String, String> {
        let page = Url::parse(&waiting.page).map_err(|error| error.to_string())?;
        let ticket = page.query_pairs().find(|(name, _)| name == "ticket").map(|(_, ticket)| ticket.into_owned());
        let ticket = ticket.unwrap_or_default();
        let opened = chooser.open(&ticket, self.now()).map_err(|_| "The page does not accept the ticket.")?;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("ticket", &ticket).append_pair("state", &waiting.state);
        form.append_pair("binding", &opened.browser_code(browser, &waiting.state));
        if choice.ended.is_empty() {
            form.append_pair("cancel", "1");
        }
        for session in &choice.ended {
            let sid = self.sessions_on(&choice.at.person, &session.device).nth(session.number - 1);
            let sid = sid.ok_or_else(|| format!("There is no session {session}."))?;
            form.append_pair("session", &opened.session_code(sid));
        }
        Ok(form.finish())
    }
}

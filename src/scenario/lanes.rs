//! The history of all sessions, from what the tenant has after each step.

use std::collections::HashMap;

use jiff::Timestamp;
use simulator::Simulator;

use super::state::SessionLane;
use super::{OnDevice, Person};

#[derive(Default)]
pub(super) struct Lanes {
    lanes: Vec<SessionLane>,
    /// Where sessions began.
    places: HashMap<String, OnDevice>,
}

impl Lanes {
    /// Notes where a session begins.
    pub fn begins(&mut self, sid: &str, at: &OnDevice) {
        self.places.entry(sid.to_owned()).or_insert_with(|| at.clone());
    }

    /// Compares with what the tenant has. A session that is gone was ended by what `ended_by` says of its id.
    pub fn update(
        &mut self,
        tenant: &Simulator,
        people: &[Person],
        now: Timestamp,
        ended_by: impl Fn(&str) -> &'static str,
    ) {
        for person in people {
            let sessions = tenant.sessions_of(&person.user_id);
            for session in &sessions {
                let position = self.lanes.iter().position(|lane| lane.id == session.id()).unwrap_or_else(|| {
                    let device = self.places.get(session.id()).map_or("", |at| &at.device);
                    self.lanes.push(SessionLane {
                        id: session.id().to_owned(),
                        person: person.name.clone(),
                        device: device.to_owned(),
                        began: session.date("created_at").unwrap_or(now),
                        clients: Vec::new(),
                        expires: None,
                        ended: None,
                        ended_by: None,
                        entry: session.entry().clone(),
                    });
                    self.lanes.len() - 1
                });
                let lane = &mut self.lanes[position];
                for client in session.clients() {
                    if !lane.clients.iter().any(|(known, _)| known == client) {
                        lane.clients.push((client.to_owned(), now));
                    }
                }
                lane.expires = ["idle_expires_at", "expires_at"].into_iter().filter_map(|at| session.date(at)).min();
                lane.entry = session.entry().clone();
            }
            for lane in self.lanes.iter_mut().filter(|lane| lane.person == person.name && lane.ended.is_none()) {
                if !sessions.iter().any(|session| session.id() == lane.id) {
                    (lane.ended, lane.ended_by) = (Some(now), Some(ended_by(&lane.id)));
                }
            }
        }
    }

    /// The device on which a session began.
    pub fn device(&self, sid: &str) -> Option<&str> {
        self.places.get(sid).map(|at| at.device.as_str())
    }

    pub fn all(&self) -> &[SessionLane] {
        &self.lanes
    }
}

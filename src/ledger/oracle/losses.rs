//! What a history loses, and what it forgets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::record::Record;
use super::super::store::Store;
use super::super::{Eviction, Ledger, Memory, SessionKey, Terms, listing_kept_for};
use super::policies::{compiled, login};
use super::store::{OracleStore, TrueTime};
use super::{CLIENTS, World, user};
use crate::policy::{LimitInputs, ListedSession, SessionList};

impl World {
    /// An older replica writes the record: it knows no listing.
    pub(super) fn downgrade(&mut self) {
        let Some(server) = &self.server else { return };
        let mut text = server.text.lock().unwrap();
        let Some((revision, written)) = text.take() else { return };
        let mut value: Value = serde_json::from_str(&written).unwrap();
        let fields = value.as_object_mut().unwrap();
        fields.retain(|name, _| ["revision", "admissions", "revoked", "origins", "tickets"].contains(&name.as_str()));
        for entry in fields["admissions"].as_array_mut().unwrap() {
            let entry = entry.as_object_mut().unwrap();
            entry.remove("settled");
            entry.remove("allowed_again_at");
        }
        let revision = revision.wrapping_add(1).max(1);
        value["revision"] = revision.into();
        *text = Some((revision, value.to_string()));
        drop(text);
        // It drops what is in progress, too.
        let in_progress = self.completing.iter().map(|(_, pair)| pair.clone());
        self.lost.extend(in_progress.chain(self.checks.iter().map(|check| check.pair.clone())));
        self.checks.clear();
    }

    pub(super) fn lose(&mut self) {
        let replica = self.random.random_range(0..self.replicas.len());
        let now_cut_off = !self.is_cut_off(replica);
        match self.random.random_range(0..5) {
            0 | 1 => self.replicas[replica].store.cut_off.store(now_cut_off, Ordering::Relaxed),
            2 => {
                let text = self.server.as_ref().map(|server| server.text.lock().unwrap().clone());
                self.saved = text.map(|text| (text, BTreeSet::new()));
            }
            3 => {
                if let (Some((text, since)), Some(server)) = (self.saved.take(), &self.server) {
                    *server.text.lock().unwrap() = text;
                    self.lost.extend(since);
                }
            }
            _ => {
                // Nobody asks.
                let pair = (self.any_session(), *CLIENTS.choose(&mut self.random).unwrap());
                self.sessions.get_mut(&pair.0).unwrap().clients.insert(pair.1);
                self.lost.insert(pair);
            }
        }
    }

    /// A replica's memory is full: it forgets the user. That is no exception, since a replica that decides by its own memory relies
    /// on nothing that it can forget.
    pub(super) fn forget(&mut self) {
        let replica = self.random.random_range(0..self.replicas.len());
        self.replicas[replica].store.memory.put(&user(), Record::default());
    }
}

/// A ledger whose server can be reached.
fn connected() -> Arc<Ledger<OracleStore>> {
    let (server, time) = (Some(Arc::default()), TrueTime::default());
    let memory = Memory::with_clock(100, time.clock());
    Arc::new(Ledger::new(OracleStore { weakness: None, server, cut_off: false.into(), time, memory }))
}

#[tokio::test(start_paused = true)]
async fn list_that_was_requested_under_another_store_is_not_remembered() {
    let policy = compiled(&json!({ "limits": { "perClient": 1 } }));
    let window = Duration::from_secs(10);
    let kept_for = listing_kept_for(Duration::from_secs(3_600));
    let terms = Terms { window, longest_check: window, listing_kept_for: kept_for, enforced: true, claims: true };
    let pair = ("s1".to_owned(), "a");
    for (cut_off_at_first, cut_off_then, is_remembered) in
        [(false, true, false), (true, false, false), (false, false, true), (true, true, true)]
    {
        let ledger = connected();
        ledger.store.cut_off.store(cut_off_at_first, Ordering::Relaxed);
        let mut attempt = ledger.begin(SessionKey::new(user(), &pair.0, pair.1), terms, Instant::now()).await;
        ledger.store.cut_off.store(cut_off_then, Ordering::Relaxed);
        let now = ledger.store.time.now();
        let clients = Some(vec![pair.1.to_owned()]);
        let listed = ListedSession { id: pair.0.clone(), created_at: Some(now), clients, ..ListedSession::default() };
        let (list, login) = (SessionList::new("u", [listed]), login(&pair));
        let check = policy.pre_checks(&login, now).unwrap();
        let decide = |admissions: &[_], revoked: &_, origins: &_| {
            check.decide(LimitInputs { sessions: &list, admissions, revoked, origins, now })
        };
        let (since, deadline) = (attempt.since(), Instant::now() + window);
        attempt.admit(&list, since, deadline, decide).await.unwrap();
        attempt.finish(Eviction::default(), true, deadline).await;
        let read = ledger.store.read(&user()).await;
        assert_eq!(read.record.listing.is_some(), is_remembered, "{cut_off_at_first} {cut_off_then}");
    }
}

//! A second implementation of the rule, slow and sentence by sentence from its specification. It shares only the input and
//! output types with `decide`. The property tests compare the two.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[derive(Clone)]
struct Known {
    id: String,
    /// Whether the list contains it after the first step.
    listed: bool,
    /// `None` when an entry does not name its applications.
    clients: Option<BTreeSet<String>>,
    remembered: BTreeSet<String>,
    created: Option<Timestamp>,
    last_use: Option<Timestamp>,
    ends: Option<Timestamp>,
    has_actor: bool,
    /// The limits towards which it does not count, because its device counts towards them.
    carried: BTreeSet<&'static str>,
}

impl Known {
    fn belongs(&self, limit_scope: LimitScope, check: &Check) -> bool {
        !self.carried.contains(limit_scope.as_str()) && self.is_counted_by(limit_scope, check)
    }

    fn has(&self, client: &str) -> bool {
        self.clients.as_ref().is_some_and(|clients| clients.contains(client)) || self.remembered.contains(client)
    }

    fn is_counted_by(&self, limit_scope: LimitScope, check: &Check) -> bool {
        let unknown = self.clients.is_none();
        let mut all = self.clients.clone().unwrap_or_default();
        all.extend(self.remembered.iter().cloned());
        match limit_scope {
            LimitScope::Client => all.contains(&check.client),
            LimitScope::Group => {
                let group = check.policy.scope.selector.clients.clone().unwrap_or_default();
                all.iter().any(|client| group.contains(client))
            }
            LimitScope::User => unknown || !all.is_empty(),
        }
    }
}

fn first_step(check: &Check) -> Vec<Known> {
    let mut order: Vec<String> = Vec::new();
    let mut by_id: BTreeMap<String, Vec<ListedSession>> = BTreeMap::new();
    for entry in &check.listed {
        match &entry.user_id {
            Some(owner) if owner != "u" => continue,
            _ => {}
        }
        if !by_id.contains_key(&entry.id) {
            order.push(entry.id.clone());
        }
        by_id.entry(entry.id.clone()).or_default().push(entry.clone());
    }
    order
        .into_iter()
        .map(|id| {
            let entries = &by_id[&id];
            let first = &entries[0];
            let clients = if entries.iter().any(|entry| entry.clients.is_none()) {
                None
            } else {
                Some(entries.iter().flat_map(|entry| entry.clients.clone().unwrap()).collect())
            };
            // The admissions of a revoked session end at once.
            let mine: Vec<&Admission> = check
                .admissions
                .iter()
                .filter(|admission| admission.sid == id && !check.revoked.contains(&id))
                .collect();
            let mut last_use = first.last_interacted_at;
            if last_use.is_none() {
                last_use = first.authenticated_at;
            }
            if last_use.is_none() {
                last_use = first.created_at;
            }
            let ends = [first.idle_expires_at, first.expires_at].into_iter().flatten().min();
            Known {
                listed: true,
                clients,
                remembered: mine.iter().map(|admission| admission.client_id.clone()).collect(),
                created: first.created_at,
                last_use,
                ends,
                has_actor: entries.iter().any(|entry| entry.has_actor),
                carried: BTreeSet::new(),
                id,
            }
        })
        .collect()
}

/// The decision by the specification.
pub(super) fn oracle(check: &Check) -> Decision {
    let now = now();
    let listed = first_step(check);
    let ledger: Vec<&Admission> =
        check.admissions.iter().filter(|admission| !check.revoked.contains(&admission.sid)).collect();
    let admitted =
        |id: &str| ledger.iter().filter(|admission| admission.sid == id).map(|admission| now - admission.age).max();

    let current = listed.iter().find(|session| session.id == check.sid).cloned();

    // The listed sessions that count.
    let mut others: Vec<Known> = Vec::new();
    for session in &listed {
        if session.id == check.sid {
            continue;
        }
        if session.ends.is_some_and(|end| end <= now) {
            continue;
        }
        if check.revoked.contains(&session.id) {
            continue;
        }
        if is_exempt(check, &session.id, session.has_actor) {
            continue;
        }
        let mut session = session.clone();
        let readable = session.last_use.is_some();
        if let Some(admitted) = admitted(&session.id) {
            session.last_use =
                Some(session.last_use.map_or(admitted, |used| if used > admitted { used } else { admitted }));
        }
        if let Some(span) = check.policy.active_within
            && readable
            && session.last_use.unwrap() < now - span
        {
            continue;
        }
        others.push(session);
    }
    // The sessions that are only in the ledger.
    let unlisted: BTreeSet<&str> = ledger
        .iter()
        .map(|admission| admission.sid.as_str())
        .filter(|sid| *sid != check.sid && !listed.iter().any(|session| session.id == *sid))
        .filter(|sid| !is_exempt(check, sid, false))
        .collect();
    for sid in unlisted {
        others.push(Known {
            id: sid.to_owned(),
            listed: false,
            clients: Some(BTreeSet::new()),
            remembered: ledger
                .iter()
                .filter(|admission| admission.sid == sid)
                .map(|admission| admission.client_id.clone())
                .collect(),
            created: ledger.iter().filter(|admission| admission.sid == sid).map(|admission| now - admission.age).min(),
            last_use: admitted(sid),
            ends: None,
            has_actor: false,
            carried: BTreeSet::new(),
        });
    }

    // The current session as a device: it also has the application that logs in.
    let as_device = {
        let mut clients: BTreeSet<String> = BTreeSet::from([check.client.clone()]);
        clients.extend(ledger.iter().filter(|it| it.sid == check.sid).map(|it| it.client_id.clone()));
        let blank = || Known {
            id: check.sid.clone(),
            listed: false,
            clients: Some(BTreeSet::new()),
            remembered: BTreeSet::new(),
            created: None,
            last_use: None,
            ends: None,
            has_actor: false,
            carried: BTreeSet::new(),
        };
        let mut session = current.clone().unwrap_or_else(blank);
        session.remembered.extend(clients);
        session
    };
    carry(check, &mut others, &as_device);

    // Every limit, in order.
    struct OracleLimit {
        limit_scope: LimitScope,
        limit: usize,
        counted: Vec<Known>,
        /// 1 when the device of the login is one of them, which has one place with it.
        own_device: usize,
        holder: bool,
        exceeded: bool,
    }
    let strategy = check.policy.strategy;
    let devices = others.clone();
    let has_device =
        |limit_scope: LimitScope| {
            let mut devices = devices.iter().filter(|it| !check.origins.web_views.contains_key(&it.id));
            check.opened_by.as_ref().or_else(|| check.origins.web_views.get(&check.sid)).is_some_and(|client| {
                devices.any(|device| device.has(client) && device.is_counted_by(limit_scope, check))
            })
        };
    let mut measured: Vec<OracleLimit> = Vec::new();
    for (limit_scope, limit) in check.policy.limits.iter() {
        let limit = limit as usize;
        let belonging: Vec<Known> = others.iter().filter(|other| other.belongs(limit_scope, check)).cloned().collect();
        let holder = current.as_ref().is_some_and(|current| current.belongs(limit_scope, check));
        if holder && check.policy.reentry == Reentry::KeepPlace {
            let current = current.as_ref().unwrap();
            let before = |other: &Known| match (other.created, current.created) {
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (a, b) if a == b => other.id.as_bytes() < current.id.as_bytes(),
                (a, b) => a < b,
            };
            let counted: Vec<Known> = belonging.into_iter().filter(|other| other.listed && before(other)).collect();
            let exceeded = strategy == Strategy::Deny && !has_device(limit_scope) && counted.len() >= limit;
            measured.push(OracleLimit { limit_scope, limit, counted, own_device: 0, holder, exceeded });
        } else {
            let exceeded = !has_device(limit_scope) && belonging.len() >= limit;
            let own_device = usize::from(has_device(limit_scope));
            measured.push(OracleLimit { limit_scope, limit, counted: belonging, own_device, holder, exceeded });
        }
    }
    let count = |measured: &OracleLimit| Count {
        limit_scope: measured.limit_scope,
        limit: u32::try_from(measured.limit).unwrap(),
        active: measured.counted.len() - measured.own_device,
        at_least: false,
    };

    let Some(first) = measured.iter().find(|measured| measured.exceeded) else {
        let mut least: Option<&OracleLimit> = None;
        for one in &measured {
            let room = |measured: &OracleLimit| measured.limit as i64 - count(measured).active as i64;
            if least.is_none_or(|least| room(one) < room(least)) {
                least = Some(one);
            }
        }
        return Decision::Within {
            count: count(least.unwrap()),
            holder: measured.iter().all(|measured| measured.holder),
        };
    };

    let only_this_client =
        match &current {
            Some(Known { clients: None, .. }) => false,
            Some(Known { clients: Some(clients), .. }) => clients.iter().all(|client| *client == check.client),
            None => true,
        } && ledger.iter().all(|admission| admission.sid != check.sid || admission.client_id == check.client);
    let blocked = Decision::Exceeded { count: count(first), revoke_session: !first.holder && only_this_client };

    if strategy == Strategy::Deny || (check.policy.revoke_requires_mfa && !check.mfa) {
        return blocked;
    }
    let mut chosen: Vec<Known> = Vec::new();
    for one in measured.iter().filter(|measured| measured.exceeded) {
        let still: Vec<&Known> =
            one.counted.iter().filter(|other| chosen.iter().all(|gone| gone.id != other.id)).collect();
        if still.len() < one.limit {
            continue;
        }
        let surplus = still.len() - (one.limit - 1);
        // A login that is only remembered cannot be revoked, on whatever session it is.
        let in_progress = |other: &Known| {
            admitted(&other.id).is_some_and(|at| now.duration_since(at) < SignedDuration::from_secs(60))
        };
        let as_listed = |other: &Known| match in_progress(other) {
            true => Known { remembered: BTreeSet::new(), ..other.clone() },
            false => other.clone(),
        };
        // A web view that is only remembered cannot be revoked, so its device stays.
        let stays = |other: &Known| {
            let mut web_views = others.iter().filter(|view| !view.listed);
            web_views.any(|view| check.origins.web_views.get(&view.id).is_some_and(|client| other.has(client)))
        };
        let mut can_go: Vec<Known> = still
            .into_iter()
            .filter(|other| !stays(other))
            .filter(|other| other.listed && as_listed(other).belongs(one.limit_scope, check))
            .cloned()
            .collect();
        can_go.sort_by(|a, b| by_strategy(strategy, a, b));
        if can_go.len() < surplus {
            return blocked;
        }
        chosen.extend(can_go.into_iter().take(surplus));
    }
    // The web views that would count without their devices go with them.
    let mut rest: Vec<Known> =
        others.iter().filter(|other| chosen.iter().all(|gone| gone.id != other.id)).cloned().collect();
    carry(check, &mut rest, &as_device);
    for view in rest {
        let before = others.iter().find(|other| other.id == view.id).unwrap();
        let changes = |scope: &LimitScope| before.belongs(*scope, check) != view.belongs(*scope, check);
        if view.listed && check.origins.web_views.contains_key(&view.id) && LimitScope::ALL.iter().any(changes) {
            chosen.push(view);
        }
    }
    chosen.sort_by(|a, b| by_strategy(strategy, a, b));
    Decision::Evict { count: count(first), victims: chosen.into_iter().map(|gone| gone.id).collect() }
}

/// Whether somebody else acts as the user in the session, and the policy exempts that.
fn is_exempt(check: &Check, sid: &str, listed_with_actor: bool) -> bool {
    check.policy.actors == Actors::Exempt && (listed_with_actor || check.origins.delegated.contains(sid))
}

/// A web view does not count towards the limits that count a session with the application that opened it.
fn carry(check: &Check, others: &mut [Known], current: &Known) {
    let mut devices: Vec<Known> =
        others.iter().filter(|other| !check.origins.web_views.contains_key(&other.id)).cloned().collect();
    if check.opened_by.is_none() && !check.origins.web_views.contains_key(&check.sid) {
        devices.push(current.clone());
    }
    for view in others {
        let Some(client) = check.origins.web_views.get(&view.id) else { continue };
        view.carried.clear();
        for limit_scope in LimitScope::ALL {
            if devices.iter().any(|device| device.has(client) && device.is_counted_by(limit_scope, check)) {
                view.carried.insert(limit_scope.as_str());
            }
        }
    }
}

fn by_strategy(strategy: Strategy, a: &Known, b: &Known) -> std::cmp::Ordering {
    let unreadable_first = |a: Option<Timestamp>, b: Option<Timestamp>| match (a, b) {
        (None, None) => std::cmp::Ordering::Equal,
        (None, Some(_)) => std::cmp::Ordering::Less,
        (Some(_), None) => std::cmp::Ordering::Greater,
        (Some(a), Some(b)) => a.cmp(&b),
    };
    match strategy {
        Strategy::Deny | Strategy::Ask | Strategy::RevokeOldest => std::cmp::Ordering::Equal,
        Strategy::RevokeLeastRecentlyUsed => unreadable_first(a.last_use, b.last_use),
        Strategy::RevokeNextToExpire => match (a.ends, b.ends) {
            (None, None) => std::cmp::Ordering::Equal,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(_), None) => std::cmp::Ordering::Less,
            (Some(a), Some(b)) => a.cmp(&b),
        },
    }
    .then_with(|| unreadable_first(a.created, b.created))
    .then_with(|| a.id.as_bytes().cmp(b.id.as_bytes()))
}

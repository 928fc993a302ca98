//! How many connections to a tenant are open: a tenant has a pool for each host by which policies reach it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::auth0::observer::Observer;

/// The open connections of all pools of a tenant.
pub(in crate::auth0) struct ConnectionCount {
    tenant: Box<str>,
    observer: Arc<dyn Observer>,
    /// Locked while it is reported, so that the last report is that of the last change.
    open: Mutex<usize>,
}

/// What one pool adds to the count, until it is dropped.
pub(super) struct PoolShare {
    count: Arc<ConnectionCount>,
    open: usize,
}

impl ConnectionCount {
    pub fn new(tenant: &str, observer: Arc<dyn Observer>) -> Self {
        observer.connections(tenant, 0);
        Self { tenant: tenant.into(), observer, open: Mutex::new(0) }
    }

    pub(super) fn tenant(&self) -> &str {
        &self.tenant
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        &*self.observer
    }

    pub(super) fn share(self: &Arc<Self>) -> PoolShare {
        PoolShare { count: Arc::clone(self), open: 0 }
    }
}

impl PoolShare {
    /// The pool has this many connections now.
    pub fn set(&mut self, open: usize) {
        let mut all = self.count.open.lock().unwrap_or_else(PoisonError::into_inner);
        *all = *all + open - self.open;
        self.open = open;
        self.count.observer.connections(&self.count.tenant, *all);
    }
}

impl Drop for PoolShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

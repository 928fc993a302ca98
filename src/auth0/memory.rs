//! How much of the tenants' answers is in memory at once: bounded for each tenant and for all tenants together.
//!
//! A tenant decides how large its answers are, and how many of them arrive at the same time. A [`Charge`] counts the bytes of
//! an answer while it is read, and then those of the list that was made of it, until the check has ended. A request never
//! waits for memory, because answers that wait half-read would keep it from those that end: what exceeds a bound fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::Error;
use super::observer::{MemoryBound, Observer};
use crate::policy::Failure;

/// The most bytes of one tenant's answers: 400 full pages of Auth0 (50 sessions, 80 KiB) at once. Auth0's limits allow 16
/// requests a second.
const MAX_TENANT_BYTES: usize = 32 << 20;

/// The most bytes of the answers of all tenants: a quarter of the memory that the chart gives a replica. Two tenants at their
/// bound leave nothing for a third, but none of them does so by accident.
const MAX_TOTAL_BYTES: usize = 64 << 20;

/// The bytes that the answers of all tenants hold.
pub(super) type TotalMemory = Arc<AtomicUsize>;

/// The bytes that the answers of one tenant hold.
pub(super) struct TenantMemory {
    tenant: Box<str>,
    held: AtomicUsize,
    total: TotalMemory,
    observer: Arc<dyn Observer>,
}

/// Bytes that are held. Dropping it gives them back.
pub struct Charge {
    memory: Arc<TenantMemory>,
    bytes: AtomicUsize,
}

impl TenantMemory {
    pub fn new(tenant: &str, total: TotalMemory, observer: Arc<dyn Observer>) -> Self {
        Self { tenant: tenant.into(), held: AtomicUsize::new(0), total, observer }
    }

    /// A charge of nothing.
    pub fn charge(self: &Arc<Self>) -> Charge {
        Charge { memory: Arc::clone(self), bytes: AtomicUsize::new(0) }
    }
}

impl Charge {
    /// A charge of nothing, for tests of what holds one.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        let observer = Arc::new(super::observer::Unobserved);
        Arc::new(TenantMemory::new("acme.eu.auth0.com", TotalMemory::default(), observer)).charge()
    }

    /// Counts more bytes.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] when they exceed a bound. They are not counted then.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        let TenantMemory { tenant, held, total, observer } = &*self.memory;
        let bound = if !add(held, bytes, MAX_TENANT_BYTES) {
            MemoryBound::Tenant
        } else if !add(total, bytes, MAX_TOTAL_BYTES) {
            held.fetch_sub(bytes, Ordering::Relaxed);
            MemoryBound::Total
        } else {
            *self.bytes.get_mut() += bytes;
            return Ok(());
        };
        observer.memory_refusal(tenant, bound);
        Err(Error::new(
            Failure::Overloaded,
            match bound {
                MemoryBound::Tenant => "answers of the tenant already take 32 MiB of memory",
                MemoryBound::Total => "answers of all tenants already take 64 MiB of memory",
            },
        ))
    }

    /// Gives the bytes back. Later calls change nothing.
    pub fn release(&self) {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        self.memory.held.fetch_sub(bytes, Ordering::Relaxed);
        self.memory.total.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.release();
    }
}

/// Adds to the counter unless that exceeds `max`.
fn add(counter: &AtomicUsize, bytes: usize, max: usize) -> bool {
    let sum = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= max);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::observer::Unobserved;
    use super::*;
    use proptest::prelude::*;

    fn memory(total: &TotalMemory) -> Arc<TenantMemory> {
        Arc::new(TenantMemory::new("acme.eu.auth0.com", Arc::clone(total), Arc::new(Unobserved)))
    }

    #[test]
    fn tenant_at_its_bound_leaves_memory_for_another() {
        let total = TotalMemory::default();
        let (greedy, other) = (memory(&total), memory(&total));
        let mut held = greedy.charge();
        held.grow(MAX_TENANT_BYTES).unwrap();
        assert_eq!(greedy.charge().grow(1).unwrap_err().failure, Failure::Overloaded);
        other.charge().grow(MAX_TENANT_BYTES).unwrap();
        drop(held);
        greedy.charge().grow(1).unwrap();
    }

    #[test]
    fn all_tenants_together_stay_within_the_total() {
        let total = TotalMemory::default();
        let held: Vec<_> = (0..MAX_TOTAL_BYTES / MAX_TENANT_BYTES)
            .map(|_| {
                let mut charge = memory(&total).charge();
                charge.grow(MAX_TENANT_BYTES).unwrap();
                charge
            })
            .collect();
        let third = memory(&total);
        assert_eq!(third.charge().grow(1).unwrap_err().failure, Failure::Overloaded);
        drop(held);
        third.charge().grow(MAX_TENANT_BYTES).unwrap();
    }

    proptest! {
        /// Whatever is counted, released and rejected, in whatever order: nothing stays counted at the end.
        #[test]
        fn every_byte_is_given_back(steps in prop::collection::vec((0usize..4, 0usize..MAX_TENANT_BYTES), 1..50)) {
            let total = TotalMemory::default();
            let tenants = [memory(&total), memory(&total), memory(&total)];
            let mut charges: Vec<Charge> = Vec::new();
            for (step, bytes) in steps {
                match step {
                    0..=2 => {
                        let mut charge = tenants[step].charge();
                        let _ = charge.grow(bytes);
                        charges.push(charge);
                    }
                    _ => charges.iter().take(1).for_each(Charge::release),
                }
                prop_assert!(total.load(Ordering::Relaxed) <= MAX_TOTAL_BYTES);
            }
            drop(charges);
            prop_assert_eq!(total.load(Ordering::Relaxed), 0);
            prop_assert!(tenants.iter().all(|tenant| tenant.held.load(Ordering::Relaxed) == 0));
        }
    }
}

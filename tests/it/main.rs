//! Promises that need more than one part of the service.

mod ledger;

//! A simulated Auth0 tenant.

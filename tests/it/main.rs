//! Promises that need sockets, processes or files.

mod auth0_client;

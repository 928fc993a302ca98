//! The chart, as Helm renders it. Needs `helm`, and one test `helm-docs`: `make chart-test` runs them all.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod render;

mod documents;
mod exposure;
mod pods;
mod rights;
mod scenarios;

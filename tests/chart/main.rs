//! Tests of the chart as Helm renders it. They need `helm`, some of them `helm-docs`, `promtool` or `glua`; `make chart-test` runs them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod render;

mod alerts;
mod crds;
mod documents;
mod exposure;
mod gitops;
mod names;
mod pods;
mod rbac;
mod scenarios;
mod schema;
mod values;

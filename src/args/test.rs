//! The options of `test`.

use std::path::PathBuf;

use clap::{Args as Group, ValueEnum};

/// Options of `test`.
#[derive(Debug, Group)]
pub struct TestArgs {
    /// Scenario files, folders with their subfolders, or - for standard input.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How to print the result: lines for people, JSON, or the XML of JUnit for CI systems.
    #[arg(long, short, env = "SESSION_CHECKER_TEST_OUTPUT", value_name = "FORMAT", default_value = "text")]
    pub output: TestFormat,
}

/// How `test` prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TestFormat {
    /// A line for each file, and a difference for each login that ends otherwise.
    Text,
    /// One JSON object.
    Json,
    /// JUnit XML.
    Junit,
}

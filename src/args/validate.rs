//! The options of `validate`.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args as Group, ValueEnum};

/// Options of `validate`.
#[derive(Debug, Group)]
pub struct ValidateArgs {
    /// Files, folders, or - for standard input.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How to print the result: lines for people, JSON, or SARIF for code scanning.
    #[arg(long, short, env = "SESSION_CHECKER_VALIDATE_OUTPUT", value_name = "FORMAT", default_value = "text")]
    pub output: ReportFormat,
    /// Also read the subfolders of folders, as the same option of kubectl apply does. serve does not read them.
    #[arg(long, short = 'R', env = "SESSION_CHECKER_VALIDATE_RECURSIVE", value_parser = BoolishValueParser::new())]
    pub recursive: bool,
    /// Skip files that do not mention sessionchecker.dev or SessionPolicy, and succeed when all are skipped: for hooks over
    /// a whole repository.
    #[arg(long, env = "SESSION_CHECKER_VALIDATE_SKIP_OTHERS", value_parser = BoolishValueParser::new())]
    pub skip_others: bool,
}

/// How `validate` prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// A line for each problem and each valid policy.
    Text,
    /// One JSON object.
    Json,
    /// SARIF 2.1.0.
    Sarif,
}

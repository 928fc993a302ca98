//! The program as a process with its own environment: its input, output, log and exit codes.

mod log;
mod output;
mod settings;

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use simulator::{Fault, Operation, Session};
use tempfile::TempDir;

use crate::common::{
    APP, DOMAIN, TOKEN, callers, credentials, eventually, folder, options, policy, strings, tenant, write,
};
use crate::process::{LOOPBACK, Process, Unread, VARIABLES, exit_and_output, finish, http, place, program};

const OUTSIDE: [&str; 5] = ["serve", "--listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0"];

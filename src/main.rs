//! The `session-checker` command.

fn main() {
    print!("{}", session_checker::crd::manifest().expect("x"));
}

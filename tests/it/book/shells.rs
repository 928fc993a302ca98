//! Completion scripts and man pages have every command.

use clap::CommandFactory;
use session_checker::args::Args;

use crate::process::finish;

fn commands() -> Vec<String> {
    let program = Args::command();
    program.get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

#[test]
fn completion_scripts_name_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, script) = finish(&[], &["completion", shell]);
        assert_eq!(code, 0, "{shell}: {script}");
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
        }
        assert!(script.contains("policy-dir"), "{shell}");
    }
}

#[test]
fn every_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let (code, text) = finish(&[], &["man", pages.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    for command in commands() {
        let page = std::fs::read_to_string(pages.join(format!("session-checker-{command}.1"))).unwrap();
        assert!(page.contains(".TH"), "{command}");
    }
    assert!(pages.join("session-checker.1").exists());
    let (code, text) = finish(&[], &["man", "/dev/null/man1"]);
    assert!(code == 1 && text.contains("/dev/null/man1"), "{text}");
}

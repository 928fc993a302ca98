//! Environment variables: an empty one counts as not set, for every option of every command.

use clap::{Command, CommandFactory};
use session_checker::args::Args;

use crate::process::finish;

/// For each command that can run: its words, and the variables of its options.
fn commands(command: &Command, words: &[String], above: &[String], found: &mut Vec<(Vec<String>, Vec<String>)>) {
    let own = command.get_arguments().filter_map(|argument| Some(argument.get_env()?.to_str()?.to_owned()));
    let variables: Vec<String> = above.iter().cloned().chain(own).collect();
    if command.get_subcommands().next().is_none() {
        found.push((words.to_vec(), variables.clone()));
    }
    for subcommand in command.get_subcommands() {
        let words = [words, &[subcommand.get_name().to_owned()]].concat();
        commands(subcommand, &words, &variables, found);
    }
}

#[test]
fn empty_variable_counts_as_not_set() {
    let mut found = Vec::new();
    commands(&Args::command(), &[], &[], &mut found);
    assert!(found.iter().map(|(_, variables)| variables.len()).sum::<usize>() > 40);
    let mut wrong = Vec::new();
    for (words, variables) in found {
        // `demo` has no error that ends it at once.
        if words == ["demo"] {
            continue;
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let expected = finish(&[], &words);
        for variable in variables {
            let shown = finish(&[(&variable, "")], &words);
            if shown != expected {
                wrong.push(format!("{words:?} {variable}: {}", shown.1));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them: {wrong:#?}", wrong.len());
}

#[test]
fn empty_variables_of_a_service_are_not_set_together() {
    // An address that is not this host's ends the start after every option was read.
    let all: Vec<String> = Args::command()
        .find_subcommand("serve")
        .unwrap()
        .get_arguments()
        .filter_map(|argument| Some(argument.get_env()?.to_str()?.to_owned()))
        .collect();
    let empty: Vec<(&str, &str)> = all.iter().map(|name| (name.as_str(), "")).collect();
    let words = ["serve", "--policy-dir", "/nowhere"];
    assert_eq!(finish(&empty, &words), finish(&[], &words));
}

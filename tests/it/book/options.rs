//! The reference of options and environment variables, from clap's own description of the program.

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory};
use session_checker::args::Args;

use super::{NOTE, assert_page, inline, wrapped};

const INTRODUCTION: &str = "\
Every option has an environment variable. An option of the command line takes precedence. A variable
that is set to the empty text counts as not set. `session-checker COMMAND --help` prints the same.
[Configuration](configuration.md) explains how the options work together.
";

#[test]
fn page_of_options_is_that_of_the_program() {
    let mut program = Args::command();
    program.build();
    let mut page = format!("# Options and variables\n\n{NOTE}\n\n{INTRODUCTION}");
    write!(
        page,
        "\n## Options of every command\n\n{}",
        table(program.get_arguments().filter(|option| option.is_global_set()))
    )
    .unwrap();
    describe(&program, "", &mut page);
    assert_page("docs/options.md", &page);
}

/// Describes the commands below `program`, each with a heading of its own.
fn describe(program: &Command, path: &str, page: &mut String) {
    for command in program.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set()) {
        let path = format!("{path}{}", command.get_name());
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        write!(page, "\n## `session-checker {path}`\n\n{}\n", wrapped(&format!("{}.", inline(&about)))).unwrap();
        let own = command.get_arguments().filter(|option| !option.is_global_set());
        let options = table(own);
        if !options.is_empty() {
            write!(page, "\n{options}").unwrap();
        }
        describe(command, &format!("{path} "), page);
    }
}

/// A table of options. A hidden option has a variable alone: its value would be in the list of processes.
fn table<'a>(options: impl Iterator<Item = &'a Arg>) -> String {
    let mut rows = String::new();
    for option in options.filter(|option| !matches!(option.get_id().as_str(), "help" | "version")) {
        let variable = option.get_env().map(|name| format!("`{}`", name.to_str().unwrap()));
        if option.is_hide_set() && variable.is_none() {
            continue;
        }
        let help = option.get_long_help().or(option.get_help()).map(ToString::to_string).unwrap_or_default();
        let (help, explained) = match help.split_once("[default: ") {
            Some((help, default)) => (help.to_owned(), Some(default.trim_end_matches(['.', ']']).to_owned())),
            None => (help, None),
        };
        let value =
            option.get_default_values().iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        let default = explained.unwrap_or(
            if !option.get_action().takes_values() || value.is_empty() || option.is_hide_default_value_set() {
                String::new()
            } else {
                format!("`{value}`")
            },
        );
        let mut meaning = with_code(&inline(&help));
        if !meaning.ends_with('.') {
            meaning.push('.');
        }
        for value in option.get_possible_values().iter().filter(|_| option.get_action().takes_values()) {
            let help = value.get_help().map(|help| format!(": {}", inline(&help.to_string()))).unwrap_or_default();
            if !matches!(value.get_name(), "true" | "false") {
                write!(meaning, " `{}`{help}.", value.get_name()).unwrap();
            }
        }
        let names: Vec<String> = name(option).into_iter().chain(variable).collect();
        writeln!(rows, "| {} | {} | {meaning} |", names.join("<br>"), with_code(&inline(&default))).unwrap();
    }
    if rows.is_empty() {
        return rows;
    }
    format!("| option, variable | default | meaning |\n|---|---|---|\n{rows}")
}

/// How the option is written, with the name of its value. A hidden one is set by its variable alone.
fn name(option: &Arg) -> Option<String> {
    let values: Vec<&str> =
        option.get_value_names().unwrap_or_default().iter().map(clap::builder::Str::as_str).collect();
    match option.get_long() {
        _ if option.is_hide_set() => None,
        Some(long) if option.get_action().takes_values() => Some(format!("`--{long} {}`", values.join(" "))),
        Some(long) => Some(format!("`--{long}`")),
        None => Some(format!("`{}`", values.join(" "))),
    }
}

/// Marks options and URLs in a text as code.
fn with_code(text: &str) -> String {
    let marked = text.split_whitespace().map(|word| {
        let bare = word.trim_end_matches([',', '.', ':', ';']);
        let is_code = !bare.starts_with('`') && (bare.starts_with("--") || bare.contains("://"));
        if is_code { format!("`{bare}`{}", &word[bare.len()..]) } else { word.to_owned() }
    });
    marked.collect::<Vec<_>>().join(" ")
}

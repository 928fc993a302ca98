//! The walls between the modules of `src/`: which may use which, read from the paths in their source.
//!
//! A test holds the walls and not a crate of the workspace, because a policy crate would need the resource's types for its
//! compile step, and `kube` with them, so that the compiler would not hold the wall that matters most.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crates that the pure core must not use.
const NOT_PURE: [&str; 5] = ["kube", "k8s_openapi", "axum", "reqwest", "tokio"];

/// What `args` may use of this crate: durations and the log format. Both modules use nothing of the crate themselves.
const BELOW_ARGS: [&str; 2] = ["crd", "telemetry"];

/// A path in a source file, such as `crate::policy::Login`, after `crate`, `self` and `super` are resolved.
struct Reference {
    /// The module that contains the path, such as `["check", "session_lists"]`.
    from: Vec<String>,
    /// The path: from the root of this crate, or from the name of another crate.
    to: Vec<String>,
    /// Whether the path leads to this crate.
    is_own: bool,
    /// The file and the line of the path.
    place: String,
}

/// A use of one module by another, with the places where it happens.
type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

#[test]
fn policy_core_uses_neither_crd_nor_frameworks() {
    let wrong = places(|reference| {
        let in_policy = reference.from[0] == "policy";
        let crd = reference.is_own
            && reference.to[0] == "crd"
            && !reference.from.starts_with(&["policy", "compile"].map(str::to_owned));
        let framework = !reference.is_own && NOT_PURE.contains(&&*reference.to[0]);
        in_policy && (crd || framework)
    });
    assert_eq!(wrong, Vec::<String>::new(), "policy reads crd in compile alone, and none of {NOT_PURE:?}");
}

#[test]
fn auth0_does_not_use_the_ledger() {
    let wrong = places(|reference| reference.is_own && reference.from[0] == "auth0" && reference.to[0] == "ledger");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn args_uses_nothing_above_itself() {
    let wrong = places(|reference| {
        let allowed = reference.to[0] == "args" || BELOW_ARGS.contains(&&*reference.to[0]);
        reference.is_own && reference.from[0] == "args" && !allowed
    });
    assert_eq!(wrong, Vec::<String>::new(), "args uses only {BELOW_ARGS:?}");
}

#[test]
fn modules_and_files_form_no_circle() {
    let (modules, references) = source();
    let mut circles = String::new();
    let folders: BTreeSet<&[String]> = modules.iter().map(|module| &module[..module.len() - 1]).collect();
    for folder in folders {
        for ((from, to), places) in circular(&arrows(folder, &modules, &references)) {
            let folder = ["src"].into_iter().chain(folder.iter().map(String::as_str)).collect::<Vec<_>>().join("/");
            circles += &format!("\n{folder}: {from} -> {to} ({})", Vec::from_iter(places).join(", "));
        }
    }
    assert!(circles.is_empty(), "these arrows make circles:{circles}");
}

#[test]
fn source_paths_are_read_through_nesting_and_without_tests() {
    let text = r#"
        use crate::{a::{self, B}, c}; // crate::comment::X
        fn f() { super::d::E::new("crate::text::X", 'x', &'static self::g::H) }
        #[cfg(test)]
        mod tests { use crate::tested::X; }
        #[cfg(test)]
        use crate::tested_too::X;
        fn g() -> other::I { crate::j() }
    "#;
    let found: Vec<String> = paths(&tokens(text)).into_iter().map(|(path, _)| path.join("::")).collect();
    let expected =
        ["crate::a::self", "crate::a::B", "crate::c", "super::d::E::new", "self::g::H", "other::I", "crate::j"];
    assert_eq!(found, expected);
}

fn places(is_wrong: impl Fn(&Reference) -> bool) -> Vec<String> {
    source()
        .1
        .into_iter()
        .filter(is_wrong)
        .map(|reference| format!("{} {}", reference.place, reference.to.join("::")))
        .collect()
}

/// Every module of `src/`, and every reference outside of tests.
fn source() -> (BTreeSet<Vec<String>>, Vec<Reference>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let mut modules = BTreeSet::new();
    let mut found = Vec::new();
    for file in files {
        let place = file.strip_prefix(&root).unwrap().with_extension("");
        let mut module: Vec<String> = place.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        module.pop_if(|last| last == "mod");
        if module == ["lib"] || module == ["main"] {
            continue;
        }
        for (path, line) in paths(&tokens(&fs::read_to_string(&file).unwrap())) {
            let place = format!("src/{}:{line}", file.strip_prefix(&root).unwrap().display());
            found.push((module.clone(), path, place));
        }
        modules.insert(module);
    }
    assert!(modules.len() > 50 && found.len() > 500, "{} modules, {} paths", modules.len(), found.len());
    let references = found.into_iter().map(|(from, path, place)| resolve(from, &path, place, &modules)).collect();
    (modules, references)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.file_stem().is_some_and(|name| name == "tests");
        if path.is_dir() && !is_test {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            files.push(path);
        }
    }
}

fn resolve(from: Vec<String>, path: &[String], place: String, modules: &BTreeSet<Vec<String>>) -> Reference {
    let supers = path.iter().take_while(|part| *part == "super").count();
    let child = [&from[..], &path[..1]].concat();
    let (is_own, to) = match path[0].as_str() {
        "crate" => (true, path[1..].to_vec()),
        "self" => (true, [&from[..], &path[1..]].concat()),
        "super" => (true, [&from[..from.len().saturating_sub(supers)], &path[supers..]].concat()),
        _ if modules.contains(&child) => (true, [&from[..], path].concat()),
        _ => (false, path.to_vec()),
    };
    // A path to the root of the crate itself leads to no module.
    let to = if to.is_empty() { vec![String::new()] } else { to };
    Reference { from, to, is_own, place }
}

/// The arrows between the children of a folder. The folder's `mod.rs` is its root and may use and be used by all of them; a
/// name that it re-exports counts as a use of the child that defines it.
fn arrows(folder: &[String], modules: &BTreeSet<Vec<String>>, references: &[Reference]) -> Arrows {
    let depth = folder.len();
    let child = |name: &String| modules.contains(&[folder, std::slice::from_ref(name)].concat());
    let re_exports: BTreeMap<&String, &String> = references
        .iter()
        .filter(|reference| reference.is_own && reference.from == folder && reference.to.starts_with(folder))
        .filter(|reference| reference.to.len() > depth + 1 && child(&reference.to[depth]))
        .map(|reference| (reference.to.last().unwrap(), &reference.to[depth]))
        .collect();
    let mut arrows = Arrows::new();
    for Reference { from, to, is_own, place } in references {
        if !is_own || from.len() <= depth || !from.starts_with(folder) || to.len() <= depth || !to.starts_with(folder) {
            continue;
        }
        let target = if child(&to[depth]) { Some(&to[depth]) } else { re_exports.get(&to[depth]).copied() };
        if let Some(target) = target.filter(|target| **target != from[depth]) {
            arrows.entry((from[depth].clone(), target.clone())).or_default().insert(place.clone());
        }
    }
    arrows
}

/// The arrows that are part of a circle: those from whose end their beginning can be reached.
fn circular(arrows: &Arrows) -> Arrows {
    let reaches = |from: &String, to: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            if seen.insert(module) {
                next.extend(arrows.keys().filter(|(from, _)| from == module).map(|(_, to)| to));
            }
        }
        seen.contains(to)
    };
    arrows
        .iter()
        .filter(|((from, to), _)| reaches(to, from))
        .map(|(arrow, places)| (arrow.clone(), places.clone()))
        .collect()
}

/// Every path of at least two parts, with its line; a `use` of a tree gives one path for each of its leaves.
fn paths(tokens: &[(String, usize)]) -> Vec<(Vec<String>, usize)> {
    let mut found = Vec::new();
    let mut position = 0;
    while position < tokens.len() {
        if is_cfg_test(&tokens[position..]) {
            position = end_of_item(tokens, position);
        } else if is_name(&tokens[position].0) && tokens.get(position + 1).is_some_and(|next| next.0 == "::") {
            position = path(tokens, position, &[], &mut found);
        } else {
            position += 1;
        }
    }
    found
}

/// Reads the path at `position`, and gives the position after it.
fn path(
    tokens: &[(String, usize)],
    mut position: usize,
    prefix: &[String],
    found: &mut Vec<(Vec<String>, usize)>,
) -> usize {
    let text = |position: usize| tokens.get(position).map_or("", |token| token.0.as_str());
    let line = tokens[position].1;
    let mut parts = prefix.to_vec();
    while is_name(text(position)) {
        parts.push(text(position).to_owned());
        position += 1;
        if text(position) != "::" {
            break;
        }
        position += 1;
        if text(position) == "{" {
            position += 1;
            while position < tokens.len() && text(position) != "}" {
                position = if is_name(text(position)) { path(tokens, position, &parts, found) } else { position + 1 };
            }
            return position + 1;
        }
    }
    found.push((parts, line));
    position
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn is_cfg_test(tokens: &[(String, usize)]) -> bool {
    let expected = ["#", "[", "cfg", "(", "test", ")", "]"];
    tokens.len() > expected.len() && tokens.iter().zip(expected).all(|(token, expected)| token.0 == expected)
}

/// The position after the item that begins at `position`: after its `;`, or after its block.
fn end_of_item(tokens: &[(String, usize)], position: usize) -> usize {
    let mut depth = 0usize;
    for (offset, (token, _)) in tokens[position..].iter().enumerate() {
        match token.as_str() {
            "{" => depth += 1,
            "}" if depth <= 1 => return position + offset + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return position + offset + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Names, `::` and single characters, each with its line; without comments, texts, character literals and lifetimes.
fn tokens(text: &str) -> Vec<(String, usize)> {
    let text: Vec<char> = text.chars().collect();
    let at = |position: usize| text.get(position).copied().unwrap_or('\0');
    let (mut tokens, mut position, mut line) = (Vec::new(), 0, 1);
    while position < text.len() {
        let start = position;
        match at(position) {
            '/' if at(position + 1) == '/' => {
                position += text[position..].iter().take_while(|c| **c != '\n').count();
            }
            '"' => position = end_of_text(&text, position),
            'r' if matches!(at(position + 1), '"' | '#') && !is_part_of_name(&text, position) => {
                let hashes = text[position + 1..].iter().take_while(|c| **c == '#').count();
                let end: Vec<char> = ['"'].into_iter().chain(std::iter::repeat_n('#', hashes)).collect();
                let inner = position + 2 + hashes;
                let length =
                    text[inner.min(text.len())..].windows(end.len()).take_while(|window| *window != end).count();
                position = inner + length + end.len();
            }
            '\'' if at(position + 1) == '\\' => {
                position += 3 + text[position + 3..].iter().take_while(|c| **c != '\'').count() + 1;
            }
            '\'' if at(position + 2) == '\'' => position += 3,
            '\'' => {
                position += 1 + text[position + 1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
            }
            ':' if at(position + 1) == ':' => {
                tokens.push(("::".to_owned(), line));
                position += 2;
            }
            c if c.is_alphanumeric() || c == '_' => {
                let name: String = text[position..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
                position += name.chars().count();
                tokens.push((name, line));
            }
            c if c.is_whitespace() => position += 1,
            c => {
                tokens.push((c.to_string(), line));
                position += 1;
            }
        }
        line += text[start..position.min(text.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn is_part_of_name(text: &[char], position: usize) -> bool {
    position > 0 && (text[position - 1].is_alphanumeric() || text[position - 1] == '_')
}

fn end_of_text(text: &[char], mut position: usize) -> usize {
    position += 1;
    while position < text.len() && text[position] != '"' {
        position += if text[position] == '\\' { 2 } else { 1 };
    }
    position + 1
}

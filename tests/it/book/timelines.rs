//! The timelines of the book: each is drawn from its scenario in `examples/scenarios`, which is played for it, and has the same
//! moments as a list below it.
//!
//! A page has a timeline between `<!-- timeline: NAME -->` and `<!-- end of timeline -->`.

use std::collections::BTreeSet;
use std::path::Path;

use session_checker::scenario::{Scenario, ScenarioRun, Timeline};

use super::{assert_page, files, pages, root, wrapped};
use crate::common::provider;

const BEGIN: &str = "<!-- timeline: ";
const END: &str = "<!-- end of timeline -->";
const FOLDER: &str = "docs/images/timelines";

/// Plays a scenario, and draws it.
async fn timeline(name: &str) -> (Scenario, Timeline) {
    let text = std::fs::read_to_string(root().join(format!("examples/scenarios/{name}.yaml"))).unwrap();
    let scenario = Scenario::parse(&text).unwrap();
    let run = ScenarioRun::of(&scenario).await.unwrap();
    assert!(run.records().iter().all(|record| record.met != Some(false)), "{name}");
    let timeline = run.timeline();
    run.stop().await;
    (scenario, timeline)
}

/// What a page has between the marks of a timeline.
fn block(name: &str, title: &str, timeline: &Timeline) -> String {
    let mut block = format!("![Timeline: {title}](images/timelines/{name}.svg)\n\n");
    for (position, item) in timeline.items().iter().enumerate() {
        block += &wrapped(&format!("{}. {item}", position + 1));
        block.push('\n');
    }
    let scenario = format!("Scenario: [{name}.yaml](../examples/scenarios/{name}.yaml), to [play](playground.md).");
    block + "\n" + &wrapped(&scenario) + "\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn timelines_are_those_of_their_scenarios() {
    provider();
    let mut drawn = BTreeSet::new();
    for path in pages("docs") {
        let page = std::fs::read_to_string(root().join(&path)).unwrap();
        let mut parts = page.split(BEGIN);
        let mut generated = parts.next().unwrap().to_owned();
        for part in parts {
            let (name, rest) = part.split_once(" -->\n").unwrap();
            let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("{}: {name} has no end", path.display()));
            let (scenario, timeline) = timeline(name).await;
            let svg = timeline.to_svg();
            assert_readable(name, &svg);
            // No session of these scenarios is left alone for so long.
            assert!(!svg.contains(">expires<"), "{name}");
            assert_page(&format!("{FOLDER}/{name}.svg"), &svg);
            generated += &format!("{BEGIN}{name} -->\n{}{END}{after}", block(name, &scenario.title, &timeline));
            assert!(drawn.insert(format!("{FOLDER}/{name}.svg")), "{name} is drawn twice");
        }
        assert_page(path.to_str().unwrap(), &generated);
    }
    assert!(drawn.len() >= 10, "{drawn:?}");
    let committed = files(FOLDER).into_iter().map(|path| path.to_str().unwrap().to_owned());
    assert_eq!(committed.collect::<BTreeSet<_>>(), drawn);
}

/// A text of a picture, as wide as it is at most with a common font.
#[derive(Debug)]
struct ShownText {
    words: String,
    left: f64,
    right: f64,
    y: f64,
}

fn texts(svg: &str) -> Vec<ShownText> {
    let elements = svg.lines().filter_map(|line| line.strip_prefix("<text class=\"")?.strip_suffix("</text>"));
    let texts = elements.map(|element| {
        let (attributes, words) = element.split_once('>').unwrap();
        let values: Vec<&str> = attributes.split('"').collect();
        let (classes, x, y) = (values[0], values[2].parse::<f64>().unwrap(), values[4].parse().unwrap());
        let has = |class: &str| classes.split(' ').any(|other| other == class);
        let size = if has("s") { 10.0 } else { 11.0 };
        let width = size * 0.55 * f64::from(u8::try_from(words.chars().count()).unwrap());
        let left = if has("m") {
            x - width / 2.0
        } else if has("e") {
            x - width
        } else {
            x
        };
        ShownText { words: words.to_owned(), left, right: left + width, y }
    });
    texts.collect()
}

/// No text leaves the picture or covers another one, and a screen reader and a small screen have enough.
fn assert_readable(name: &str, svg: &str) {
    let texts = texts(svg);
    for (position, text) in texts.iter().enumerate() {
        assert!(text.left >= 1.0 && text.right <= 359.0, "{name}: {text:?}");
        for other in &texts[..position] {
            let apart = (text.y - other.y).abs() >= 9.0 || text.left >= other.right || other.left >= text.right;
            assert!(apart, "{name}: {text:?} covers {other:?}");
        }
    }
    let names = texts.iter().filter(|text| text.words.contains('\'')).count();
    assert!((1..=5).contains(&names), "{name}: {names} rows");
    for part in ["role=\"img\"", "<title id=\"title\">", "<desc id=\"desc\">1. ", "prefers-color-scheme: dark"] {
        assert!(svg.contains(part), "{name}: {part}");
    }
    let is_safe = ["<script", "foreignObject", "href", "url("].iter().all(|part| !svg.contains(part));
    assert!(is_safe && svg.matches("://").count() == 1, "{name}: only the namespace is an address");
}

#[test]
fn every_scenario_is_played_by_the_playground_and_by_a_test() {
    let menu = std::fs::read_to_string(root().join("src/playground/mod.rs")).unwrap();
    for path in files("examples/scenarios") {
        let file = Path::new("../..").join(&path);
        assert!(menu.contains(&format!("include_str!(\"{}\")", file.display())), "{}", path.display());
    }
}

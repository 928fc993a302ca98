//! The documents of a file, and what keeps one from being read, in plain words. No message quotes the file, which may contain a
//! Secret.

use granit_parser::{ErrorKind, ScanError};
use serde_json::Value;

use super::ProblemKind;
use super::places::{FieldPlaces, FilePlace};
use crate::source::{FileError, parse_yaml};

/// Files from this size are also read as a whole, because the service's parser has bounds for a file.
const LARGE_FILE: usize = 64 * 1024;

/// What is wrong with the text of a file.
#[derive(Debug)]
pub(super) struct TextProblem {
    pub place: FilePlace,
    pub kind: ProblemKind,
    pub message: String,
}

/// A document with the places of its fields.
pub(super) struct YamlDocument {
    pub value: Value,
    pub places: FieldPlaces,
}

/// A part of a text that is read by itself.
pub(crate) struct Part<'a> {
    /// The text.
    pub text: &'a str,
    /// The line of the whole text with which it begins.
    pub first_line: usize,
}

/// The text of a file.
///
/// # Errors
/// When the bytes are not UTF-8.
pub(super) fn decode(bytes: &[u8]) -> Result<&str, TextProblem> {
    let problem = |place, message: &str| {
        let message = format!("{message}: save the file as UTF-8");
        TextProblem { place, kind: ProblemKind::Syntax, message }
    };
    let start = FilePlace { line: 1, column: 1 };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(problem(start, "the file is UTF-16"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    str::from_utf8(bytes).map_err(|error| {
        let good = str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        let (line, last) = good.split('\n').enumerate().last().unwrap_or_default();
        let place = FilePlace { line: line + 1, column: last.chars().count() + 1 };
        problem(place, "a character here is not UTF-8, perhaps because the file is Latin-1 or Windows-1252")
    })
}

/// Reads the documents of a text. A document that cannot be read does not keep the others from being read.
pub(super) fn documents(text: &str) -> (Vec<YamlDocument>, Vec<TextProblem>) {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    let parts = parts(text);
    for part in &parts {
        match read(part) {
            Ok(read) => documents.extend(read),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty()
        && text.len() > LARGE_FILE
        && let Err(error) = parse_yaml(text)
    {
        problems.push(yaml_problem(&error, 1));
    }
    (documents, problems)
}

/// The parts of a text between its lines that begin with `---`.
pub(crate) fn parts(text: &str) -> Vec<Part<'_>> {
    let mut starts = vec![(0, 1)];
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let is_separator =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        // Comments and directives before the first separator belong to the document after it.
        if is_separator && starts.last().is_some_and(|(start, _)| !is_empty(&text[*start..offset])) {
            starts.push((offset, number + 1));
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([text.len()]);
    let parts = starts.iter().zip(ends).map(|(&(start, first_line), end)| Part { text: &text[start..end], first_line });
    parts.filter(|part| !is_empty(part.text)).collect()
}

/// Whether a text has only comments, directives and separators.
fn is_empty(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with(['#', '%']) || line == "---" || line == "..."
    })
}

fn read(part: &Part<'_>) -> Result<Vec<YamlDocument>, Vec<TextProblem>> {
    let places = FieldPlaces::read(part.text, part.first_line).map_err(|error| {
        let marker = error.marker();
        let place = FilePlace { line: marker.line().max(1) + part.first_line - 1, column: marker.col() + 1 };
        vec![template(part).unwrap_or_else(|| TextProblem {
            place,
            kind: ProblemKind::Syntax,
            message: scan_message(&error),
        })]
    })?;
    if !places.duplicates.is_empty() {
        let problem = |(path, place): &(String, FilePlace)| {
            let message = format!("the field {path} is written twice: keep one of the two");
            TextProblem { place: *place, kind: ProblemKind::Syntax, message }
        };
        return Err(places.duplicates.iter().map(problem).collect());
    }
    let values = parse_yaml(part.text)
        .map_err(|error| vec![template(part).unwrap_or_else(|| yaml_problem(&error, part.first_line))])?;
    let mut places = Some(places);
    // Only a text with `...` has more than one value here, and the places are those of all together.
    let document = |value| YamlDocument { value, places: places.take().unwrap_or_default() };
    Ok(values.into_iter().map(document).collect())
}

/// The problem of a text that is not YAML because it is a template.
fn template(part: &Part<'_>) -> Option<TextProblem> {
    let lines = part.text.lines().enumerate();
    let (line, column) = lines.filter_map(|(number, line)| Some((number, line.find("{{")?))).next()?;
    let place = FilePlace { line: line + part.first_line, column: column + 1 };
    Some(TextProblem { place, kind: ProblemKind::Template, message: TEMPLATE.to_owned() })
}

/// The message for a template.
pub(super) const TEMPLATE: &str = "this is a template: validate what it renders, such as with \
                                   `helm template CHART | session-checker validate -`";

fn yaml_problem(error: &serde_saphyr::Error, first_line: usize) -> TextProblem {
    let error = error.without_snippet();
    let location = error.location();
    let number = |number: u64| usize::try_from(number).unwrap_or_default().max(1);
    let place = location.map_or(FilePlace { line: first_line, column: 1 }, |at| FilePlace {
        line: number(at.line()) + first_line - 1,
        column: number(at.column()),
    });
    let message = match FileError::from(error) {
        error @ FileError::TooLarge(_) => error.to_string(),
        _ => OTHER.to_owned(),
    };
    TextProblem { place, kind: ProblemKind::Syntax, message }
}

const OTHER: &str = "this cannot be read as YAML: check the indentation, the quotes and the brackets before this place";

/// What is wrong with a text that is not YAML, and what to write.
fn scan_message(error: &ScanError) -> String {
    use ErrorKind as E;
    let message = match error.kind() {
        E::TabNotAllowed
        | E::TabInBlockIndentation
        | E::TabInIndentation
        | E::TabInPlainScalar
        | E::TabAtBlockScalarStart => "a tab is here, and YAML indents with spaces: replace the tab with spaces",
        E::UnclosedQuotedScalar | E::DocumentIndicatorInQuotedScalar | E::InvalidQuotedScalarIndent => {
            "a quote is opened and not closed: add the closing quote"
        }
        E::InvalidTrailingSingleQuotedScalar | E::InvalidTrailingDoubleQuotedScalar => {
            "text follows a closing quote: put the whole value in one pair of quotes"
        }
        E::UnclosedFlowCollection { .. }
        | E::MismatchedFlowCollectionEnd { .. }
        | E::MisplacedFlowCollectionEnd
        | E::UnexpectedEofFlowSequence
        | E::UnexpectedEofFlowMapping
        | E::UnexpectedEofImplicitFlowMapping
        | E::ExpectedFlowMappingSeparator
        | E::ExpectedFlowSequenceSeparator
        | E::InvalidFlowScalarIndent => {
            "the brackets do not match: close each [ with ] and each { with }, and put commas between the values"
        }
        E::UnknownAnchor => {
            "the alias (*) names an anchor that this document does not have: add the anchor (&), or write the value"
        }
        E::MissingAnchorOrAliasName => "a value must not begin with * or &: put it in quotes",
        E::MappingValueNotAllowed
        | E::InvalidColonPlacement
        | E::InvalidMappingValueWhitespace
        | E::MappingKeyNotAllowed => {
            "there is a colon too many in this line, or a bracket or a quote before it is not closed: put a value with a colon in quotes"
        }
        E::ExpectedBlockMappingKey
        | E::InvalidIndentation
        | E::SimpleKeyExpected
        | E::InvalidSimpleKey
        | E::ExpectedBlockSequenceEntry
        | E::BlockSequenceEntryNotAllowed
        | E::ExpectedDocumentStart => {
            "this line does not fit the lines before it: indent it like the fields beside it, and write NAME: VALUE"
        }
        E::UnexpectedCharacter { .. } => "a value must not begin with this character: put it in quotes",
        E::UnknownQuotedScalarEscape | E::InvalidQuotedScalarHexEscape => {
            "there is no such escape in double quotes: use single quotes, or write \\\\ for a backslash"
        }
        _ => OTHER,
    };
    message.to_owned()
}

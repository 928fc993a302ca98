//! Where the fields of a YAML document are written.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScanError, Span};

/// A line and a column of a file, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePlace {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// The places of the fields of one document, by their paths, such as `spec.overrides[0].users`.
#[derive(Debug, Default)]
pub(crate) struct FieldPlaces {
    fields: HashMap<String, FieldPlace>,
    /// Keys that their map has already, with their second place.
    pub duplicates: Vec<(String, FilePlace)>,
    /// The first place of the document.
    start: FilePlace,
}

#[derive(Clone, Copy, Debug)]
struct FieldPlace {
    key: FilePlace,
    value: FilePlace,
    is_scalar: bool,
}

/// A map or a list that the parser is inside of.
struct Collection {
    path: String,
    /// A list has the position of its next item; a map has none.
    next: Option<usize>,
    /// The key of a map whose value comes next.
    key: Option<(String, FilePlace)>,
    /// The collection itself is a key, which no resource has.
    is_key: bool,
}

/// The name of a key that is not a single value.
const ODD_KEY: &str = "?";

impl FieldPlaces {
    /// Reads the places of a document that begins at a line of its file.
    ///
    /// # Errors
    /// When the text is not YAML. The error's place counts from the beginning of the text.
    pub fn read(text: &str, first_line: usize) -> Result<Self, ScanError> {
        let mut places = Self { start: FilePlace { line: first_line, column: 1 }, ..Self::default() };
        let mut open: Vec<Collection> = Vec::new();
        for next in Parser::new_from_str(text) {
            let (event, span) = next?;
            let place = place(&span, first_line);
            match event {
                Event::Scalar(text, ..) => {
                    if let Some(map) = expects_key(&mut open) {
                        places.key(map, text.into_owned(), place);
                    } else {
                        places.value(&mut open, place, true);
                    }
                }
                Event::Alias(_) => match expects_key(&mut open) {
                    Some(map) => places.key(map, ODD_KEY.to_owned(), place),
                    None => drop(places.value(&mut open, place, true)),
                },
                Event::MappingStart(..) => places.open(&mut open, place, None),
                Event::SequenceStart(..) => places.open(&mut open, place, Some(0)),
                Event::MappingEnd | Event::SequenceEnd => {
                    let closed = open.pop();
                    if closed.is_some_and(|closed| closed.is_key)
                        && let Some(map) = open.last_mut()
                    {
                        map.key = Some((ODD_KEY.to_owned(), place));
                    }
                }
                _ => {}
            }
        }
        Ok(places)
    }

    /// The place of a field: the value of a single value, the name of a map or list. A field that is not written has the place
    /// of what it would be in.
    pub fn of(&self, path: &str) -> FilePlace {
        self.find(path).map_or(self.start, |found| if found.is_scalar { found.value } else { found.key })
    }

    /// The place of a field's name.
    pub fn of_name(&self, path: &str) -> FilePlace {
        self.written_name(path).unwrap_or(self.start)
    }

    /// The place of a field's name, or of what the field would be in. `None` when nothing of the path is written.
    pub fn written_name(&self, path: &str) -> Option<FilePlace> {
        self.find(path).map(|found| found.key)
    }

    fn find(&self, path: &str) -> Option<&FieldPlace> {
        let mut path = path;
        loop {
            if let Some(found) = self.fields.get(path) {
                return Some(found);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    fn key(&mut self, map: &mut Collection, name: String, place: FilePlace) {
        // `<<` may be repeated: it merges another map.
        if name != ODD_KEY && name != "<<" && self.fields.contains_key(&join(&map.path, &name)) {
            self.duplicates.push((join(&map.path, &name), place));
        }
        map.key = Some((name, place));
    }

    /// Notes a value, and returns its path.
    fn value(&mut self, open: &mut [Collection], value: FilePlace, is_scalar: bool) -> String {
        let (path, key) = match open.last_mut() {
            None => (String::new(), value),
            Some(Collection { path, next: Some(next), .. }) => {
                let item = format!("{path}[{next}]");
                *next += 1;
                (item, value)
            }
            Some(Collection { path, key, .. }) => match key.take() {
                Some((name, place)) => (join(path, &name), place),
                None => (join(path, ODD_KEY), value),
            },
        };
        self.fields.entry(path.clone()).or_insert(FieldPlace { key, value, is_scalar });
        path
    }

    fn open(&mut self, open: &mut Vec<Collection>, place: FilePlace, next: Option<usize>) {
        let is_key = expects_key(open).is_some();
        let path = if is_key { ODD_KEY.to_owned() } else { self.value(open, place, false) };
        open.push(Collection { path, next, key: None, is_key });
    }
}

fn expects_key(open: &mut [Collection]) -> Option<&mut Collection> {
    open.last_mut().filter(|map| map.next.is_none() && map.key.is_none())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn place(span: &Span, first_line: usize) -> FilePlace {
    FilePlace { line: span.start.line() + first_line - 1, column: span.start.col() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment
kind: SessionPolicy
spec:
  limits: {perUser: 3, perClient: 1}
  overrides:
  - name: vip
    users:
      - u
  message: >
    folded
";

    #[test]
    fn every_field_has_its_line_and_column() {
        let places = FieldPlaces::read(TEXT, 11).unwrap();
        for (path, line, column) in [
            ("kind", 12, 7),
            ("spec", 13, 1),
            ("spec.limits", 14, 3),
            ("spec.limits.perUser", 14, 21),
            ("spec.limits.perClient", 14, 35),
            ("spec.overrides[0]", 16, 5),
            ("spec.overrides[0].name", 16, 11),
            ("spec.overrides[0].users[0]", 18, 9),
            ("spec.overrides[0].limits", 16, 5),
            ("spec.message", 20, 5),
            ("metadata.name", 11, 1),
        ] {
            assert_eq!(places.of(path), FilePlace { line, column }, "{path}");
        }
        assert_eq!(places.of_name("spec.limits.perUser"), FilePlace { line: 14, column: 12 });
        assert_eq!(places.duplicates, []);
    }

    #[test]
    fn repeated_key_is_found_in_its_own_map() {
        let places = FieldPlaces::read("a:\n  b: 1\n  c: 2\n  b: 3\nd: {b: 1}\na: 2\n", 1).unwrap();
        let expected = [("a.b".to_owned(), 4, 3), ("a".to_owned(), 6, 1)];
        let found: Vec<_> =
            places.duplicates.iter().map(|(path, place)| (path.clone(), place.line, place.column)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn anchors_aliases_and_odd_keys_are_read() {
        let places = FieldPlaces::read("a: &x {b: 1}\nc: *x\n? [1, 2]\n: d\n<<: *x\ne: 1\n", 1).unwrap();
        assert_eq!((places.of("c.b").line, places.of("e").line), (2, 6));
    }
}

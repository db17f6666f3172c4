//! The first pass: a document as a tree with places, within limits.

use super::source::Source;
use crate::error::{Error, Result};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

/// The deepest nesting. Our own formats have five levels; the second parser is quadratic in it.
const DEPTH_LIMIT: usize = 64;
/// The most nodes of a file once aliases are put in; an instance has some dozen.
const NODE_LIMIT: usize = 10_000;

/// A place in a file, both counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Place {
    /// The beginning of a file.
    pub const START: Self = Self { line: 1, column: 1 };

    /// A place; numbers past four billion stay there.
    pub fn new(line: usize, column: usize) -> Self {
        let bounded = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).max(1);
        Self { line: bounded(line), column: bounded(column) }
    }

    fn of(mark: Marker) -> Self {
        Self::new(mark.line(), mark.col() + 1)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it stands.
pub struct Node {
    place: Place,
    content: Content,
    /// This node and everything in it, aliases put in.
    size: usize,
    /// Levels, this one included.
    height: usize,
}

/// Shows its place only: values may be secret.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.place)
    }
}

/// What a node is.
pub(super) enum Content {
    Null,
    Scalar,
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// A key and its value.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Rc<Node>,
}

impl Node {
    /// Where it begins.
    pub const fn place(&self) -> Place {
        self.place
    }

    pub(super) const fn content(&self) -> &Content {
        &self.content
    }

    /// The place of the value at a path, or of the innermost part of the path that is there. A list's element is named
    /// by its number.
    pub fn place_of(&self, path: &[&str]) -> Place {
        self.find(path).1
    }

    /// As [`Node::place_of`], but of the key, where the last part of the path is one.
    pub fn place_of_key(&self, path: &[&str]) -> Place {
        self.find(path).0
    }

    fn find(&self, path: &[&str]) -> (Place, Place) {
        let Some((first, rest)) = path.split_first() else { return (self.place, self.place) };
        let (key, value) = match &self.content {
            Content::Map(entries) => match entries.iter().find(|entry| entry.key == *first) {
                Some(entry) => (entry.place, &entry.value),
                None => return (self.place, self.place),
            },
            Content::List(items) => match first.parse().ok().and_then(|n: usize| items.get(n)) {
                Some(item) => (item.place, item),
                None => return (self.place, self.place),
            },
            Content::Null | Content::Scalar => return (self.place, self.place),
        };
        // A missing value has no place of its own worth showing.
        let shown = if matches!(value.content, Content::Null) { key } else { value.place };
        if rest.is_empty() { (key, shown) } else { value.find(rest) }
    }
}

/// Reads the documents of a text, empty ones left out. Each is a mapping.
pub(super) fn read(source: &Source<'_>) -> Result<Vec<Rc<Node>>> {
    let mut builder = Builder { source, open: Vec::new(), anchors: BTreeMap::new(), nodes: 0 };
    let mut roots = Vec::new();
    for event in Parser::new_from_str(source.text()) {
        let (event, span) = event.map_err(|error| source.syntax_error(Place::of(*error.marker()), error.info()))?;
        if let Some(root) = builder.take(event, span)? {
            match root.content {
                Content::Null => {}
                Content::Map(_) => roots.push(root),
                Content::Scalar | Content::List(_) => {
                    return Err(source.error(root.place, "a document must be a mapping, with lines like 'key: value'"));
                }
            }
        }
    }
    Ok(roots)
}

/// A collection whose end has not been seen.
struct Open {
    place: Place,
    anchor: usize,
    items: Items,
    size: usize,
    height: usize,
}

enum Items {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, key: Option<(String, Place)> },
}

struct Builder<'s, 'a> {
    source: &'s Source<'a>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Rc<Node>>,
    nodes: usize,
}

impl Builder<'_, '_> {
    /// Takes one event; gives the root when a document's last node is done.
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<Option<Rc<Node>>> {
        let place = Place::of(span.start);
        match event {
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(place, tag.is_some())?;
                let null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                if self.wants_key() {
                    self.count(place, 1)?;
                    self.key(text.into_owned(), place);
                    return Ok(None);
                }
                let content = if null { Content::Null } else { Content::Scalar };
                return self.value(Rc::new(Node { place, content, size: 1, height: 1 }), anchor);
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| self.source.error(place, "an alias refers to what it is a part of"))?;
                return self.value(node, 0);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(place, tag.is_some())?;
                self.begin(place, anchor, Items::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(place, tag.is_some())?;
                self.begin(place, anchor, Items::Map { entries: Vec::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => return self.end(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(None)
    }

    fn refuse_tag(&self, place: Place, tagged: bool) -> Result<()> {
        if !tagged {
            return Ok(());
        }
        Err(self
            .source
            .error(place, "tags are not used in this file")
            .suggest("remove the word that begins with '!', or put the value in quotes if it is part of it"))
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { items: Items::Map { key: None, .. }, .. }))
    }

    fn begin(&mut self, place: Place, anchor: usize, items: Items) -> Result<()> {
        if self.wants_key() {
            return Err(self.source.error(place, "a key must be a plain text"));
        }
        self.count(place, 1)?;
        self.open.push(Open { place, anchor, items, size: 1, height: 1 });
        self.check_depth(place, 0)
    }

    fn count(&mut self, place: Place, nodes: usize) -> Result<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes <= NODE_LIMIT {
            return Ok(());
        }
        Err(self
            .source
            .error(place, &format!("the file has more than {NODE_LIMIT} values, those of its aliases included"))
            .suggest(format!("split {} into smaller files", self.source.file())))
    }

    fn check_depth(&self, place: Place, below: usize) -> Result<()> {
        if self.open.len() + below <= DEPTH_LIMIT {
            return Ok(());
        }
        Err(self.source.error(place, &format!("the file is nested more than {DEPTH_LIMIT} levels deep")))
    }

    fn key(&mut self, text: String, place: Place) {
        if let Some(Open { items: Items::Map { key, .. }, .. }) = self.open.last_mut() {
            *key = Some((text, place));
        }
    }

    /// Adds a scalar, or what an alias brings, to what it is part of.
    fn value(&mut self, node: Rc<Node>, anchor: usize) -> Result<Option<Rc<Node>>> {
        let place = node.place;
        if self.wants_key() {
            return Err(self.source.error(place, "a key must be a plain text"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        // What an alias brings is counted each time.
        self.count(place, node.size)?;
        self.check_depth(place, node.height.saturating_sub(1))?;
        Ok(self.attach(node))
    }

    fn attach(&mut self, node: Rc<Node>) -> Option<Rc<Node>> {
        let Some(parent) = self.open.last_mut() else { return Some(node) };
        parent.size += node.size;
        parent.height = parent.height.max(node.height + 1);
        match &mut parent.items {
            Items::List(items) => items.push(node),
            Items::Map { entries, key } => {
                if let Some((key, place)) = key.take() {
                    parent.size += 1;
                    entries.push(Entry { key, place, value: node });
                }
            }
        }
        None
    }

    fn end(&mut self) -> Result<Option<Rc<Node>>> {
        let Some(done) = self.open.pop() else { return Ok(None) };
        let content = match done.items {
            Items::List(items) => Content::List(items),
            Items::Map { entries, .. } => {
                self.refuse_duplicates(&entries)?;
                Content::Map(entries)
            }
        };
        let place = match &content {
            Content::Map(entries) => entries.first().map_or(done.place, |entry| entry.place.min(done.place)),
            Content::Null | Content::Scalar | Content::List(_) => done.place,
        };
        let node = Rc::new(Node { place, content, size: done.size, height: done.height });
        if done.anchor > 0 {
            self.anchors.insert(done.anchor, Rc::clone(&node));
        }
        Ok(self.attach(node))
    }

    fn refuse_duplicates(&self, entries: &[Entry]) -> Result<()> {
        let mut seen = BTreeSet::new();
        let Some(again) = entries.iter().find(|entry| !seen.insert(entry.key.as_str())) else { return Ok(()) };
        let first = entries.iter().find(|entry| entry.key == again.key).map_or(0, |entry| entry.place.line);
        let key = Error::echo(&again.key);
        Err(self
            .source
            .error(again.place, &format!("the key '{key}' is given twice, first on line {first}"))
            .suggest(format!("remove one of the two '{key}' from {}", self.source.file())))
    }
}

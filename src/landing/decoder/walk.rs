//! One pass over a record's value: finds where the declared columns' values lie, and gathers what
//! no column names.

use std::ops::Range;

use super::scan::{Bad, DEPTH_MAX, Kind, Scanner, unescape};
use crate::config::{Column, ColumnSource};

/// The declared paths as a tree. Nodes are numbered so that those below one follow it directly:
/// a subtree is a range.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

/// The node of the value itself.
pub(super) const ROOT: usize = 0;

#[derive(Debug, Default)]
struct Node {
    children: Vec<Child>,
    /// Whether a column takes the whole value.
    taken: bool,
    /// Behind the last node below this one.
    end: usize,
}

#[derive(Debug)]
struct Child {
    edges: Edges,
    key: Box<str>,
    node: usize,
}

/// A key's length and its outer bytes: all of it, up to sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edges {
    length: usize,
    head: u64,
    tail: u64,
}

impl Edges {
    /// Of the key in this part of a text, which may go on behind it.
    #[inline(always)]
    fn of(bytes: &[u8], key: Range<usize>) -> Self {
        let length = key.len();
        let eight = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
        let (head, tail) = if length >= 8 {
            (eight(key.start), eight(key.end - 8))
        } else {
            (eight(key.start), None)
        };
        let tail = tail.map_or(0, |chunk| u64::from_le_bytes(*chunk));
        let head = match head {
            Some(chunk) if length >= 8 => u64::from_le_bytes(*chunk),
            Some(chunk) => u64::from_le_bytes(*chunk) & ((1 << (8 * length)) - 1),
            None => Self::few(&bytes[key]),
        };
        Self { length, head, tail }
    }

    /// Fewer than eight bytes, as `of` packs them.
    #[cold]
    fn few(key: &[u8]) -> u64 {
        let bytes = key.iter().rev();
        bytes.fold(0, |head, byte| head << 8 | u64::from(*byte))
    }
}

impl Tree {
    /// The tree of the columns' paths, and the node of each column (the root's, where it takes
    /// nothing from the value).
    pub(super) fn new(columns: &[Column]) -> (Self, Vec<usize>) {
        let mut paths: Vec<&[String]> = columns.iter().filter_map(path_of).collect();
        paths.sort_unstable();
        let mut tree = Self {
            nodes: vec![Node::default()],
        };
        for path in &paths {
            tree.add(path);
        }
        for node in (0..tree.nodes.len()).rev() {
            let below = tree.nodes[node].children.last();
            tree.nodes[node].end = below.map_or(node + 1, |child| tree.nodes[child.node].end);
        }
        let places = columns
            .iter()
            .map(|column| path_of(column).map_or(ROOT, |path| tree.find(path)))
            .collect();
        (tree, places)
    }

    /// Adds a path; sorted paths make a preorder.
    fn add(&mut self, path: &[String]) {
        let mut node = ROOT;
        for key in path {
            let known = self.nodes[node].children.last();
            node = match known.filter(|child| *child.key == **key) {
                Some(child) => child.node,
                None => {
                    let added = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[node].children.push(Child {
                        edges: Edges::of(key.as_bytes(), 0..key.len()),
                        key: key.as_str().into(),
                        node: added,
                    });
                    added
                }
            };
        }
        self.nodes[node].taken = true;
    }

    /// The node of a path that was given to [`Tree::new`], or of the beginning of one.
    pub(super) fn find(&self, path: &[String]) -> usize {
        path.iter().fold(ROOT, |node, key| {
            let mut next = 0;
            self.child(node, key.as_bytes(), 0..key.len(), &mut next)
                .unwrap_or(ROOT)
        })
    }

    /// Whether any column takes a path.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// The node behind the key in this part of a text. `next` is the child expected, since most
    /// objects of a topic have their keys in one order.
    #[inline(always)]
    fn child(
        &self,
        node: usize,
        text: &[u8],
        key: Range<usize>,
        next: &mut usize,
    ) -> Option<usize> {
        let children = &self.nodes[node].children;
        let edges = Edges::of(text, key.clone());
        let is = |child: &Child| {
            child.edges == edges
                && (edges.length <= 16 || *child.key.as_bytes() == text[key.clone()])
        };
        let at = match children.get(*next) {
            Some(child) if is(child) => *next,
            _ => children.iter().position(is)?,
        };
        *next = at + 1;
        Some(children[at].node)
    }
}

fn path_of(column: &Column) -> Option<&[String]> {
    match &column.source {
        ColumnSource::Path(path) => Some(path),
        ColumnSource::Key | ColumnSource::Header(_) | ColumnSource::Topic => None,
    }
}

/// A value of the record's, as it is written there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: Kind,
    from: u32,
    to: u32,
}

impl Found {
    pub(super) fn range(self) -> Range<usize> {
        self.from as usize..self.to as usize
    }
}

/// What a pass found; kept from record to record for its memory.
#[derive(Debug)]
pub(super) struct Findings {
    /// By node: its last value. The last of equal keys counts, with all that is in it.
    pub(super) found: Vec<Option<Found>>,
    /// What no column names, as members that each end with a comma, behind an opening brace.
    extra: String,
    /// By node: where in `extra` its members lie, so that an equal key that follows takes them
    /// back.
    left: Vec<Range<usize>>,
    keep_extra: bool,
    key: String,
}

impl Findings {
    pub(super) fn new(tree: &Tree, keep_extra: bool) -> Self {
        Self {
            found: vec![None; tree.nodes.len()],
            extra: String::new(),
            left: vec![0..0; tree.nodes.len()],
            keep_extra,
            key: String::new(),
        }
    }

    /// Forgets the record before.
    pub(super) fn clear(&mut self) {
        self.found.fill(None);
        if self.keep_extra {
            self.left.fill(0..0);
            self.extra.clear();
        }
    }

    /// The text of `_extra`; `None`: nothing is left.
    pub(super) fn extra(&self) -> Option<&str> {
        (self.extra.len() > 1).then_some(self.extra.as_str())
    }

    /// Reads the value. The root's kind is what it is, an object or not.
    pub(super) fn read(&mut self, tree: &Tree, text: &str) -> Result<Kind, Bad> {
        self.clear();
        let mut walk = Walk {
            tree,
            scan: Scanner::new(text),
            to: self,
        };
        let kind = walk.root()?;
        walk.scan.end()?;
        Ok(kind)
    }

    /// A key came again: what its earlier value held does not count.
    #[cold]
    fn forget(&mut self, node: usize, end: usize) {
        self.found[node..end].fill(None);
        let gone = self.left[node].clone();
        self.left[node..end].fill(0..0);
        if gone.is_empty() {
            return;
        }
        self.extra.drain(gone.clone());
        for range in &mut self.left {
            if range.start >= gone.end {
                *range = range.start - gone.len()..range.end - gone.len();
            }
        }
    }

    /// Closes the object in `extra` that began behind `from`, or takes it back if nothing is in it.
    #[inline]
    fn close(&mut self, from: usize) {
        if self.extra.ends_with('{') {
            self.extra.truncate(from);
        } else {
            self.extra.truncate(self.extra.len() - 1);
            self.extra.push('}');
        }
    }
}

struct Walk<'a, 'f> {
    tree: &'f Tree,
    scan: Scanner<'a>,
    to: &'f mut Findings,
}

impl Walk<'_, '_> {
    fn root(&mut self) -> Result<Kind, Bad> {
        if self.scan.space() != Some(b'{') {
            return self.scan.value(0);
        }
        if self.to.keep_extra {
            self.to.extra.push('{');
        }
        self.members(ROOT, 1, self.to.keep_extra)?;
        if self.to.keep_extra {
            self.to.close(0);
        }
        Ok(Kind::Object)
    }

    /// Reads an object from its opening brace on, which is the one that makes `depth`.
    fn members(&mut self, node: usize, depth: usize, keep: bool) -> Result<(), Bad> {
        self.scan.at += 1;
        if self.scan.space() == Some(b'}') {
            self.scan.at += 1;
            return Ok(());
        }
        let mut next = 0;
        loop {
            let key_from = self.scan.at;
            let (child, key_to) = self.key(node, &mut next)?;
            match child {
                Some(child) => self.named(child, depth, keep, key_from..key_to)?,
                None => {
                    let from = self.scan.at;
                    self.scan.value(depth)?;
                    if keep {
                        self.keep(key_from..key_to, from);
                    }
                }
            }
            match self.scan.space() {
                Some(b',') => {
                    self.scan.at += 1;
                    self.scan.space();
                }
                Some(b'}') => {
                    self.scan.at += 1;
                    return Ok(());
                }
                _ => return Err(self.scan.syntax("a comma or a closing brace")),
            }
        }
    }

    /// Passes a key and its colon. Returns the node that it names, and where the key ends.
    #[inline]
    fn key(&mut self, node: usize, next: &mut usize) -> Result<(Option<usize>, usize), Bad> {
        let from = self.scan.at + 1;
        if self.scan.peek() != Some(b'"') {
            return Err(self.scan.syntax("a key"));
        }
        self.scan.at = from;
        let kind = self.scan.string()?;
        let to = self.scan.at;
        if self.scan.space() != Some(b':') {
            return Err(self.scan.syntax("a colon"));
        }
        self.scan.at += 1;
        self.scan.space();
        let child = if kind == Kind::Plain {
            let text = self.scan.text.as_bytes();
            self.tree.child(node, text, from..to - 1, next)
        } else {
            self.to.key.clear();
            unescape(&self.scan.text[from..to - 1], &mut self.to.key);
            let key = self.to.key.as_bytes();
            self.tree.child(node, key, 0..key.len(), next)
        };
        Ok((child, to))
    }

    /// Reads a value that a column takes, or that lies on the way to one.
    #[inline]
    fn named(
        &mut self,
        child: usize,
        depth: usize,
        keep: bool,
        key: Range<usize>,
    ) -> Result<(), Bad> {
        let node = &self.tree.nodes[child];
        if self.to.found[child].is_some() {
            self.to.forget(child, node.end);
        }
        let keep = keep && !node.taken;
        let (from, left_from) = (self.scan.at, self.to.extra.len());
        let kind = if !node.children.is_empty() && self.scan.peek() == Some(b'{') {
            if depth >= DEPTH_MAX {
                return Err(self.scan.too_deep());
            }
            if keep {
                self.to.extra.push_str(&self.scan.text[key]);
                self.to.extra.push_str(":{");
            }
            self.members(child, depth + 1, keep)?;
            if keep {
                self.to.close(left_from);
                if self.to.extra.len() > left_from {
                    self.to.extra.push(',');
                }
            }
            Kind::Object
        } else {
            let kind = self.scan.value(depth)?;
            if keep && kind != Kind::Null {
                self.keep(key, from);
            }
            kind
        };
        self.to.found[child] = Some(Found {
            kind,
            from: from as u32,
            to: self.scan.at as u32,
        });
        if keep {
            self.to.left[child] = left_from..self.to.extra.len();
        }
        Ok(())
    }

    /// Keeps a member, as it is written, up to here.
    fn keep(&mut self, key: Range<usize>, from: usize) {
        self.to.extra.push_str(&self.scan.text[key]);
        self.to.extra.push(':');
        self.to.extra.push_str(&self.scan.text[from..self.scan.at]);
        self.to.extra.push(',');
    }
}

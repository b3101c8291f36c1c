//! The keys that the file of a batch may have, and the shapes of what stands under them.

use std::path::PathBuf;
use std::time::Duration;

use super::locate::Step;
use super::mistakes::Mistakes;
use super::node::Node;
use crate::{args, find, render};

/// A batch as it is written: what is wrong in it is left out here, and told.
#[derive(Debug, Default)]
pub(super) struct RawSpec {
    pub(super) agent: Option<String>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) timeout: Option<Duration>,
    pub(super) tasks: Vec<RawItem>,
}

#[derive(Debug, Default)]
pub(super) struct RawItem {
    /// None only where that was told as a mistake.
    pub(super) id: Option<String>,
    pub(super) prompt: Option<String>,
    pub(super) prompt_file: Option<PathBuf>,
    /// One of the two stands there, be it right or wrong.
    pub(super) has_prompt: bool,
    pub(super) agent: Option<String>,
    pub(super) depends_on: Vec<String>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) timeout: Option<Duration>,
}

const TOP: [&str; 4] = ["agent", "cwd", "timeout", "tasks"];
const ITEM: [&str; 8] = ["id", "name", "prompt", "prompt_file", "agent", "depends_on", "cwd", "timeout"];

/// The whole document: a list of tasks, or a mapping with defaults for all and `tasks`.
pub(super) fn read(document: Node, mistakes: &mut Mistakes<'_>) -> RawSpec {
    let mut spec = RawSpec::default();
    match document {
        Node::List(items) => spec.tasks = tasks(items, mistakes),
        Node::Map(entries) => {
            known(&entries, &TOP, &[], true, mistakes);
            for (key, node) in entries {
                let mut wrong = |what: String| mistakes.at_top(&[Step::Key(&[&key])], |_| what);
                match key.as_str() {
                    "agent" => spec.agent = text(&key, node, &mut wrong),
                    "cwd" => spec.cwd = text(&key, node, &mut wrong).map(PathBuf::from),
                    "timeout" => spec.timeout = duration(&key, &node, &mut wrong),
                    "tasks" => match node {
                        Node::List(items) => spec.tasks = tasks(items, mistakes),
                        Node::Nothing => {}
                        other => {
                            wrong(format!("`tasks` is to be a list of tasks, and this is {}", other.noun()));
                        }
                    },
                    _ => {}
                }
            }
        }
        other => mistakes.at_top(&[], |_| {
            format!("a batch is a list of tasks, or a mapping with `tasks`, and this is {}", other.noun())
        }),
    }
    spec
}

fn tasks(items: Vec<Node>, mistakes: &mut Mistakes<'_>) -> Vec<RawItem> {
    items.into_iter().enumerate().map(|(n, node)| item(n, node, mistakes)).collect()
}

fn item(n: usize, node: Node, mistakes: &mut Mistakes<'_>) -> RawItem {
    let mut item = RawItem::default();
    let entries = match node {
        Node::Map(entries) => entries,
        other => {
            let what = format!("a task is a mapping with id and prompt, and this is {}", other.noun());
            mistakes.at(&[Step::Index(n)], |_| what);
            // What it lacks besides needs no telling.
            return RawItem { has_prompt: true, ..item };
        }
    };
    let strange = known(&entries, &ITEM, &[Step::Index(n)], false, mistakes);
    let has = |name: &str| entries.iter().any(|(key, _)| key == name);
    if has("id") && has("name") {
        mistakes.at(&[Step::Index(n), Step::Name("name")], |_| {
            "a task has one of id and name; keep one".to_owned()
        });
    } else if !has("id") && !has("name") && !strange {
        mistakes.at(&[Step::Index(n)], |_| "this task has no id (or name)".to_owned());
    }
    let gives = |name: &str| entries.iter().any(|(key, node)| key == name && *node != Node::Nothing);
    // A key that nobody knows may be meant for what is lacking.
    item.has_prompt = strange || gives("prompt") || gives("prompt_file");
    for (key, node) in entries {
        let mut wrong = |what: String| mistakes.at(&[Step::Index(n), Step::Key(&[&key])], |_| what);
        match key.as_str() {
            "id" | "name" => item.id = word(&key, &node, &mut wrong),
            "prompt" => item.prompt = text(&key, node, &mut wrong),
            "prompt_file" => item.prompt_file = text(&key, node, &mut wrong).map(PathBuf::from),
            "agent" => item.agent = text(&key, node, &mut wrong),
            "depends_on" => item.depends_on = words(&key, node, &mut wrong),
            "cwd" => item.cwd = text(&key, node, &mut wrong).map(PathBuf::from),
            "timeout" => item.timeout = duration(&key, &node, &mut wrong),
            _ => {}
        }
    }
    item
}

/// Tells of keys that nobody knows, and of those that stand there twice. True when there is one that nobody knows.
fn known(
    entries: &[(String, Node)],
    names: &[&'static str],
    place: &[Step<'_>],
    top: bool,
    mistakes: &mut Mistakes<'_>,
) -> bool {
    let mut strange = false;
    for (n, (key, _)) in entries.iter().enumerate() {
        let shown = render::value(key);
        let what = if !names.contains(&key.as_str()) {
            strange = true;
            let near = find::nearest(key, names.iter().copied());
            format!("unknown key `{shown}`{near} (known are: {})", names.join(", "))
        } else if entries[..n].iter().any(|(before, _)| before == key) {
            format!("the key `{shown}` stands here twice")
        } else {
            continue;
        };
        let path = [place, &[Step::Name(key)]].concat();
        if top { mistakes.at_top(&path, |_| what) } else { mistakes.at(&path, |_| what) }
    }
    strange
}

type Wrong<'a> = dyn FnMut(String) + 'a;

fn text(key: &str, node: Node, wrong: &mut Wrong<'_>) -> Option<String> {
    match node {
        Node::Text(text) => return Some(text),
        Node::Nothing => {}
        Node::Whole(_) | Node::Number(_) | Node::Flag(_) => {
            wrong(format!("`{key}` is to be a text, and this is {}; put it in quotes", node.noun()));
        }
        Node::List(_) | Node::Map(_) => {
            wrong(format!("`{key}` is to be a text, and this is {}", node.noun()));
        }
    }
    None
}

/// A name; a number is one too.
fn word(key: &str, node: &Node, wrong: &mut Wrong<'_>) -> Option<String> {
    match node {
        Node::Text(text) => Some(text.clone()),
        Node::Whole(n) => Some(n.to_string()),
        other => {
            wrong(format!("`{key}` is to be a name, and this is {}", other.noun()));
            None
        }
    }
}

/// One name or several.
fn words(key: &str, node: Node, wrong: &mut Wrong<'_>) -> Vec<String> {
    match node {
        Node::Nothing => Vec::new(),
        Node::List(items) => items.iter().filter_map(|item| word(key, item, wrong)).collect(),
        other => word(key, &other, wrong).into_iter().collect(),
    }
}

fn duration(key: &str, node: &Node, wrong: &mut Wrong<'_>) -> Option<Duration> {
    if *node == Node::Nothing {
        return None;
    }
    args::duration(&word(key, node, wrong)?).map_err(wrong).ok()
}

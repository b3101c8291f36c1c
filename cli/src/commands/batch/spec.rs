//! The file that says what a batch consists of: read, checked, put into an order. What is wrong is told with file and
//! line; all of it is wrong usage.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::locate::Step;
use super::mistakes::{File, ID, Mistakes};
use super::raw::{self, RawItem};
use crate::commands::prompt;
use crate::{args, find, render};

/// A batch, in an order in which each item comes behind those that it depends on.
#[derive(Debug)]
pub(super) struct Spec {
    file: File,
    pub(super) items: Vec<Item>,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) prompt: String,
    pub(super) agent: Option<String>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) timeout: Option<Duration>,
    /// Places in [`Spec::items`], all before this one's.
    pub(super) depends_on: Vec<usize>,
    /// Which entry of the file it is.
    pub(super) entry: usize,
}

impl Spec {
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let (file, document) = File::read(path)?;
        let mut mistakes = Mistakes::new(&file);
        let raw = raw::read(document, &mut mistakes);
        let ids: Vec<&str> = raw.tasks.iter().map(|item| item.id.as_deref().unwrap_or_default()).collect();
        let places = places(&raw.tasks, &mut mistakes);
        let edges = edges(&raw.tasks, &ids, &places, &mut mistakes);
        let order = order(&ids, &edges, &mut mistakes);
        let prompts: Vec<Option<String>> =
            raw.tasks.iter().enumerate().map(|(n, item)| prompt_of(n, item, &mut mistakes)).collect();
        mistakes.end()?;
        if raw.tasks.is_empty() {
            return Err(file.wrong(None, "there are no tasks in it"));
        }
        let mut place_of = vec![0; order.len()];
        for (place, entry) in order.iter().enumerate() {
            place_of[*entry] = place;
        }
        let item = |entry: &usize| {
            let item = &raw.tasks[*entry];
            Some(Item {
                id: item.id.clone()?,
                prompt: prompts[*entry].clone()?,
                agent: item.agent.clone().or_else(|| raw.agent.clone()),
                cwd: item.cwd.as_ref().or(raw.cwd.as_ref()).map(|cwd| file.beside(cwd)),
                timeout: item.timeout.or(raw.timeout),
                depends_on: edges[*entry].iter().map(|on| place_of[*on]).collect(),
                entry: *entry,
            })
        };
        // Without a mistake each has all of it.
        Ok(Self { items: order.iter().filter_map(item).collect(), file })
    }

    /// For what the file alone does not tell.
    pub(super) fn mistakes(&self) -> Mistakes<'_> {
        Mistakes::new(&self.file)
    }
}

/// Which entry each id names. What is no id is told, and named by none.
fn places<'a>(items: &'a [RawItem], mistakes: &mut Mistakes<'_>) -> BTreeMap<&'a str, usize> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (n, item) in items.iter().enumerate() {
        let Some(id) = item.id.as_deref() else { continue };
        let at = [Step::Index(n), ID];
        match args::key(id) {
            Err(what) => mistakes.at(&at, |_| format!("the id: {what}")),
            Ok(_) => match places.get(id).copied() {
                Some(first) => mistakes.at(&at, |file| {
                    let first = file.line(&[Step::Index(first), ID]);
                    let first = first.map(|line| format!(" in line {line}")).unwrap_or_default();
                    format!("`{id}` is there already{first}")
                }),
                None => drop(places.insert(id, n)),
            },
        }
    }
    places
}

/// Which entries each entry depends on.
fn edges(
    items: &[RawItem],
    ids: &[&str],
    places: &BTreeMap<&str, usize>,
    mistakes: &mut Mistakes<'_>,
) -> Vec<Vec<usize>> {
    let mut edges = Vec::with_capacity(items.len());
    for (n, item) in items.iter().enumerate() {
        let (mut on, mut seen) = (Vec::new(), BTreeSet::new());
        for name in &item.depends_on {
            match places.get(name.as_str()) {
                Some(place) if seen.insert(*place) => on.push(*place),
                Some(_) => {}
                None => mistakes.at(&[Step::Index(n), Step::Key(&["depends_on"])], |_| {
                    let near = find::nearest(name, places.keys().copied());
                    let name = render::value(name);
                    format!("`{}` depends on `{name}`, which is not in this file{near}", ids[n])
                }),
            }
        }
        edges.push(on);
    }
    edges
}

/// The order of the file, but for those that must wait for later ones.
fn order(ids: &[&str], edges: &[Vec<usize>], mistakes: &mut Mistakes<'_>) -> Vec<usize> {
    let mut missing: Vec<usize> = edges.iter().map(Vec::len).collect();
    let mut waiting = vec![Vec::new(); edges.len()];
    for (n, on) in edges.iter().enumerate() {
        on.iter().for_each(|on| waiting[*on].push(n));
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..edges.len()).filter(|n| missing[*n] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(edges.len());
    while let Some(Reverse(next)) = ready.pop() {
        order.push(next);
        for n in &waiting[next] {
            missing[*n] -= 1;
            if missing[*n] == 0 {
                ready.push(Reverse(*n));
            }
        }
    }
    if order.len() < edges.len() {
        let circle = circle(edges, &missing);
        let first = circle.first().copied().unwrap_or_default();
        let names: Vec<&str> = circle.iter().chain([&first]).map(|n| ids[*n]).collect();
        mistakes.at(&[Step::Index(first), Step::Key(&["depends_on"])], |_| {
            format!("these depend on each other in a circle: {}", names.join(" → "))
        });
    }
    order
}

/// The circle that keeps what is left from being ordered.
fn circle(edges: &[Vec<usize>], missing: &[usize]) -> Vec<usize> {
    let left = |n: &usize| missing[*n] > 0;
    // Everything that is left depends on something that is left: following that comes round.
    let mut path: Vec<usize> = (0..edges.len()).find(left).into_iter().collect();
    let from = loop {
        let Some(next) = path.last().and_then(|at| edges[*at].iter().copied().find(left)) else {
            break 0;
        };
        if let Some(from) = path.iter().position(|n| *n == next) {
            break from;
        }
        path.push(next);
    };
    path.split_off(from)
}

/// The text of an entry's prompt.
fn prompt_of(entry: usize, item: &RawItem, mistakes: &mut Mistakes<'_>) -> Option<String> {
    let name =
        item.id.as_deref().filter(|id| !id.is_empty()).map_or("this task".to_owned(), |id| format!("`{id}`"));
    let at_id = [Step::Index(entry), ID];
    let text = match (&item.prompt, &item.prompt_file) {
        (Some(_), Some(_)) => {
            mistakes.at(&at_id, |_| format!("{name} has both prompt and prompt_file; keep one"));
            return None;
        }
        (Some(text), None) => text.clone(),
        (None, Some(path)) => {
            let path = mistakes.file.beside(path);
            match prompt::file(&path) {
                Ok(text) => text,
                Err(error) => {
                    let path = path.display();
                    mistakes.at(&[Step::Index(entry), Step::Key(&["prompt_file"])], |_| {
                        format!("cannot read the prompt file {path}: {error}")
                    });
                    return None;
                }
            }
        }
        (None, None) => {
            if !item.has_prompt {
                mistakes.at(&at_id, |_| format!("{name} has no prompt; give it prompt or prompt_file"));
            }
            return None;
        }
    };
    if text.trim().is_empty() {
        mistakes.at(&at_id, |_| format!("the prompt of {name} is empty"));
        return None;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str, text: &str) -> Result<Spec, String> {
        let folder = std::env::temp_dir().join(format!("ra-spec-{}-{}", std::process::id(), crc(text)));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(file);
        std::fs::write(&path, text).unwrap();
        let spec = Spec::read(&path).map_err(|error| error.replace(&format!("{}/", folder.display()), ""));
        std::fs::remove_dir_all(&folder).unwrap();
        spec
    }

    fn crc(text: &str) -> u32 {
        crc32fast::hash(text.as_bytes())
    }

    #[test]
    fn items_come_behind_what_they_depend_on_and_otherwise_as_in_the_file() {
        let spec = read(
            "s.yaml",
            "agent: shell\ntasks:\n- {id: c, prompt: x, depends_on: [a, b]}\n- {id: b, prompt: x, depends_on: a}\n- {name: a, prompt: x, agent: mine}\n- {id: 4, prompt: x, timeout: 5m}\n",
        )
        .unwrap();
        let ids: Vec<&str> = spec.items.iter().map(|item| item.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c", "4"]);
        assert_eq!(spec.items[2].depends_on, [0, 1]);
        assert_eq!(
            (spec.items[0].agent.as_deref(), spec.items[1].agent.as_deref()),
            (Some("mine"), Some("shell"))
        );
        assert_eq!(spec.items[3].timeout, Some(Duration::from_secs(300)));
    }

    #[test]
    fn a_bare_list_and_json_are_batches_too() {
        assert_eq!(read("s.yaml", "- id: a\n  prompt: x\n").unwrap().items.len(), 1);
        assert_eq!(read("s.json", "[\n\t{\"id\": \"a\", \"prompt\": \"x\"}]").unwrap().items.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let cases = [
            ("- id: a\n  promt: x\n", "s.yaml:2: unknown key `promt`; did you mean `prompt`?"),
            ("tsaks: []\n", "s.yaml:1: unknown key `tsaks`; did you mean `tasks`?"),
            ("- id: a\n  prompt: x\n- id: a\n  prompt: y\n", "s.yaml:3: `a` is there already in line 1"),
            ("- id: a\n", "s.yaml:1: `a` has no prompt; give it prompt or prompt_file"),
            ("- id: a\n  prompt: ' '\n", "s.yaml:1: the prompt of `a` is empty"),
            (
                "- id: build\n  prompt: x\n- id: b\n  prompt: x\n  depends_on: [biuld]\n",
                "s.yaml:5: `b` depends on `biuld`, which is not in this file; did you mean `build`?",
            ),
            (
                "- {id: a, prompt: x}\n- {id: b, prompt: x, depends_on: c}\n- {id: c, prompt: x, depends_on: b}\n",
                "s.yaml:2: these depend on each other in a circle: b → c → b",
            ),
            ("- id: a\n  prompt: x\n  timeout: soon\n", "s.yaml:3: `soon` is not a duration"),
            ("timeout: soon\ntasks:\n- id: a\n  prompt: x\n", "s.yaml:1: `soon` is not a duration"),
            ("- id: a\n  prompt_file: none.md\n", "s.yaml:2: cannot read the prompt file none.md"),
            ("[]", "s.yaml: there are no tasks in it"),
            ("", "s.yaml: it is empty"),
            ("# nothing\n", "s.yaml"),
            ("- id: a\n  prompt:\n", "s.yaml:1: `a` has no prompt"),
            ("- id: a\n  prompt: [x]\n", "s.yaml:2: `prompt` is to be a text, and this is a list"),
            (
                "- id: a\n  prompt: 5\n",
                "s.yaml:2: `prompt` is to be a text, and this is the number 5; put it in quotes",
            ),
            ("- id: a\n  prompt: x\n  prompt: y\n", "s.yaml:2: the key `prompt` stands here twice"),
            (
                "- id: a\n  prompt: x\n  depends_on: {a: b}\n",
                "s.yaml:3: `depends_on` is to be a name, and this is a mapping",
            ),
            ("- prompt: x\n", "s.yaml:1: this task has no id (or name)"),
            ("- x\n", "s.yaml:1: a task is a mapping with id and prompt, and this is a text"),
            ("tasks: x\n", "s.yaml:1: `tasks` is to be a list of tasks, and this is a text"),
            ("- id: 'a\n", "s.yaml:"),
            ("hello", "s.yaml:1: a batch is a list of tasks, or a mapping with `tasks`, and this is a text"),
        ];
        for (text, wanted) in cases {
            let error = read("s.yaml", text).unwrap_err();
            assert!(error.starts_with(wanted), "{text}\n  {error}\n  {wanted}");
        }
        let error = read("s.json", "[{\"id\": \"a\",\n \"promt\": 1}]").unwrap_err();
        assert!(error.starts_with("s.json:2: unknown key `promt`; did you mean `prompt`?"), "{error}");
    }
    #[test]
    fn all_that_is_wrong_is_told_at_once_in_the_order_of_the_file() {
        let text = "timeout: soon\ntasks:\n- id: a\n  promt: x\n- id: a\n  prompt: x\n  depends_on: [b]\n- id: c\n  prompt: x\n  depends_on: [d]\n- id: d\n  prompt: x\n  depends_on: [c]\n  timeout: never\n";
        let error = read("s.yaml", text).unwrap_err();
        let lines: Vec<&str> = error.lines().map(|line| line.split(':').nth(1).unwrap()).collect();
        assert_eq!(lines, ["1", "4", "5", "7", "10", "14"], "{error}");
        for rust in ["invalid type", "expected struct", "Option", "Raw", "sequence"] {
            assert!(!error.contains(rust), "{rust}: {error}");
        }
        let many: String = (0..30).map(|n| format!("- {{id: {n}}}\n")).collect();
        let error = read("s.yaml", &many).unwrap_err();
        assert_eq!(
            (error.lines().count(), error.lines().last()),
            (21, Some("and 10 more mistakes")),
            "{error}"
        );
    }
}

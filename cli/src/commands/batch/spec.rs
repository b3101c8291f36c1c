//! The file that says what a batch consists of: read, checked, put into an order. What is wrong is told with file and
//! line; all of it is wrong usage.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::locate::{self, Step};
use super::raw::{RawItem, RawSpec, Top, Word};
use crate::args;
use crate::commands::prompt;
use crate::find;

/// A file is small; one that is not is no batch.
const FILE_MAX: u64 = 16 * 1024 * 1024;
const ID: Step = Step::Key(&["id", "name"]);

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
    entry: usize,
}

/// The text, and where it came from: what an error needs.
#[derive(Debug)]
struct File {
    path: PathBuf,
    text: String,
    json: bool,
    /// The items stand under `tasks`, not at the top.
    nested: bool,
}

impl Spec {
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let (file, raw) = File::read(path)?;
        if raw.tasks.is_empty() {
            return Err(format!("{}: there are no tasks in it", path.display()));
        }
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for (n, item) in raw.tasks.iter().enumerate() {
            if let Err(what) = args::key(&item.id.0) {
                return Err(file.wrong(&[Step::Index(n), ID], &format!("the id: {what}")));
            }
            if let Some(first) = places.insert(&item.id.0, n) {
                let first = file.line(&[Step::Index(first), ID]).map(|line| format!(" in line {line}"));
                let what = format!("`{}` is there already{}", item.id.0, first.unwrap_or_default());
                return Err(file.wrong(&[Step::Index(n), ID], &what));
            }
        }
        let edges = file.edges(&raw.tasks, &places)?;
        let order = file.order(&raw.tasks, &edges)?;
        let mut place_of = vec![0; order.len()];
        for (place, entry) in order.iter().enumerate() {
            place_of[*entry] = place;
        }
        let items = order.iter().map(|entry| {
            let raw_item = &raw.tasks[*entry];
            Ok(Item {
                id: raw_item.id.0.clone(),
                prompt: file.prompt(*entry, raw_item)?,
                agent: raw_item.agent.clone().or_else(|| raw.agent.clone()),
                cwd: raw_item.cwd.as_ref().or(raw.cwd.as_ref()).map(|cwd| file.beside(cwd)),
                timeout: file.timeout(*entry, raw_item, raw.timeout.as_ref())?,
                depends_on: edges[*entry].iter().map(|on| place_of[*on]).collect(),
                entry: *entry,
            })
        });
        Ok(Self { items: items.collect::<Result<_, String>>()?, file })
    }

    /// An error about one item, with the place of what stands under `key`, or of its id.
    pub(super) fn wrong(&self, item: &Item, key: &'static [&'static str], what: &str) -> String {
        let key = Step::Key(key);
        let path = [Step::Index(item.entry), key];
        let path = if self.file.line(&path).is_some() { path } else { [Step::Index(item.entry), ID] };
        self.file.wrong(&path, what)
    }
}

impl File {
    fn read(path: &Path) -> Result<(Self, RawSpec), String> {
        let cannot = |what: String| format!("cannot read the batch {}: {what}", path.display());
        let opened = std::fs::File::open(path).map_err(|e| cannot(e.to_string()))?;
        let text = prompt::text(opened, FILE_MAX)
            .map_err(|what| cannot(format!("{what}; long prompts go into files (prompt_file)")))?;
        let json = path.extension().is_some_and(|extension| extension == "json");
        let parsed: Result<Top, (Option<(usize, usize)>, String)> = if json {
            serde_json::from_str(&text).map_err(|e| (Some((e.line(), e.column())), e.to_string()))
        } else {
            serde_yaml::from_str(&text)
                .map_err(|e| (e.location().map(|place| (place.line(), place.column())), e.to_string()))
        };
        match parsed {
            Ok(Top { nested, spec }) => Ok((Self { path: path.to_owned(), text, json, nested }, spec)),
            Err((place, what)) => {
                let place = place.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
                Err(format!("{}{place}: {}", path.display(), reworded(&what)))
            }
        }
    }

    /// A path of the file is meant from the file's folder.
    fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    fn line(&self, path: &[Step]) -> Option<usize> {
        let mut whole = Vec::new();
        if self.nested {
            whole.push(Step::Key(&["tasks"]));
        }
        whole.extend_from_slice(path);
        locate::line(&self.text, self.json, &whole)
    }

    fn wrong(&self, path: &[Step], what: &str) -> String {
        self.wrong_in_line(self.line(path), what)
    }

    fn wrong_in_line(&self, line: Option<usize>, what: &str) -> String {
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line}: {what}", self.path.display())
    }

    /// The time limit of an entry, its own or the one that stands above all.
    fn timeout(&self, entry: usize, item: &RawItem, all: Option<&Word>) -> Result<Option<Duration>, String> {
        let Some(text) = item.timeout.as_ref().or(all) else { return Ok(None) };
        let duration = args::duration(&text.0).map_err(|what| match item.timeout {
            Some(_) => self.wrong(&[Step::Index(entry), Step::Key(&["timeout"])], &what),
            None => {
                self.wrong_in_line(locate::line(&self.text, self.json, &[Step::Key(&["timeout"])]), &what)
            }
        })?;
        Ok(Some(duration))
    }

    /// Which entries each entry depends on.
    fn edges(&self, items: &[RawItem], places: &BTreeMap<&str, usize>) -> Result<Vec<Vec<usize>>, String> {
        let mut edges = Vec::with_capacity(items.len());
        for (n, item) in items.iter().enumerate() {
            let (mut on, mut seen) = (Vec::new(), BTreeSet::new());
            for name in &item.depends_on.0 {
                let Some(place) = places.get(name.0.as_str()) else {
                    let near = find::nearest(&name.0, places.keys().copied());
                    let what =
                        format!("`{}` depends on `{}`, which is not in this file{near}", item.id.0, name.0);
                    return Err(self.wrong(&[Step::Index(n), Step::Key(&["depends_on"])], &what));
                };
                if seen.insert(*place) {
                    on.push(*place);
                }
            }
            edges.push(on);
        }
        Ok(edges)
    }

    /// The order of the file, but for those that must wait for later ones.
    fn order(&self, items: &[RawItem], edges: &[Vec<usize>]) -> Result<Vec<usize>, String> {
        let mut missing: Vec<usize> = edges.iter().map(Vec::len).collect();
        let mut waiting = vec![Vec::new(); items.len()];
        for (n, on) in edges.iter().enumerate() {
            on.iter().for_each(|on| waiting[*on].push(n));
        }
        let mut ready: BinaryHeap<Reverse<usize>> =
            (0..items.len()).filter(|n| missing[*n] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(items.len());
        while let Some(Reverse(next)) = ready.pop() {
            order.push(next);
            for n in &waiting[next] {
                missing[*n] -= 1;
                if missing[*n] == 0 {
                    ready.push(Reverse(*n));
                }
            }
        }
        if order.len() < items.len() { Err(self.cycle(items, edges, &missing)) } else { Ok(order) }
    }

    /// Names the circle that keeps what is left from being ordered.
    fn cycle(&self, items: &[RawItem], edges: &[Vec<usize>], missing: &[usize]) -> String {
        let left = |n: &usize| missing[*n] > 0;
        // Everything that is left depends on something that is left: following that comes round.
        let mut path: Vec<usize> = (0..items.len()).find(left).into_iter().collect();
        let from = loop {
            let Some(next) = path.last().and_then(|at| edges[*at].iter().copied().find(left)) else {
                break 0;
            };
            if let Some(from) = path.iter().position(|n| *n == next) {
                break from;
            }
            path.push(next);
        };
        let circle = &path[from..];
        let first = circle.first().copied().unwrap_or_default();
        let names: Vec<&str> = circle.iter().chain([&first]).map(|n| items[*n].id.0.as_str()).collect();
        let what = format!("these depend on each other in a circle: {}", names.join(" → "));
        self.wrong(&[Step::Index(first), Step::Key(&["depends_on"])], &what)
    }

    fn prompt(&self, entry: usize, item: &RawItem) -> Result<String, String> {
        let at_id = [Step::Index(entry), ID];
        let text = match (&item.prompt, &item.prompt_file) {
            (Some(_), Some(_)) => {
                let what = format!("`{}` has both prompt and prompt_file; keep one", item.id.0);
                return Err(self.wrong(&at_id, &what));
            }
            (Some(text), None) => text.clone(),
            (None, Some(path)) => {
                let path = self.beside(path);
                prompt::file(&path).map_err(|error| {
                    let what = format!("cannot read the prompt file {}: {error}", path.display());
                    self.wrong(&[Step::Index(entry), Step::Key(&["prompt_file"])], &what)
                })?
            }
            (None, None) => {
                let what = format!("`{}` has no prompt; give it prompt or prompt_file", item.id.0);
                return Err(self.wrong(&at_id, &what));
            }
        };
        if text.trim().is_empty() {
            return Err(self.wrong(&at_id, &format!("the prompt of `{}` is empty", item.id.0)));
        }
        Ok(text)
    }
}

/// A parser's error without the place, which stands before it, and with the key that was meant.
fn reworded(what: &str) -> String {
    let what = what.rsplit_once(" at line ").map_or(what, |(what, _)| what);
    let what = what.strip_prefix(".[").map_or_else(|| what.to_owned(), |rest| format!("[{rest}"));
    let Some((path, list)) = what.split_once("unknown field `") else { return what };
    let Some((field, expected)) = list.split_once('`') else { return what.clone() };
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let near = find::nearest(field, known.iter().copied());
    format!("{path}unknown key `{field}`{near} (known are: {})", known.join(", "))
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
    fn the_order_takes_a_heap_and_no_walk_through_all_for_each() {
        // A chain against the order of the file is the worst case: quadratic work would take minutes.
        let mut text = String::new();
        for n in 0..20_000 {
            let on = if n == 19_999 { String::new() } else { format!(", depends_on: {}", n + 1) };
            text.push_str(&format!("- {{id: {n}, prompt: x{on}}}\n"));
        }
        let spec = read("s.yaml", &text).unwrap();
        assert!(spec.items.iter().rev().enumerate().all(|(n, item)| item.id == n.to_string()));
    }

    #[test]
    fn a_bare_list_and_json_are_batches_too() {
        assert_eq!(read("s.yaml", "- id: a\n  prompt: x\n").unwrap().items.len(), 1);
        assert_eq!(read("s.json", "[\n\t{\"id\": \"a\", \"prompt\": \"x\"}]").unwrap().items.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let cases = [
            ("- id: a\n  promt: x\n", "s.yaml:2:3: [0]: unknown key `promt`; did you mean `prompt`?"),
            ("tsaks: []\n", "s.yaml:1:1: unknown key `tsaks`; did you mean `tasks`?"),
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
            ("hello", "s.yaml:1:1: invalid type: string \"hello\", expected a list of tasks"),
        ];
        for (text, wanted) in cases {
            let error = read("s.yaml", text).unwrap_err();
            assert!(error.starts_with(wanted), "{text}\n  {error}\n  {wanted}");
        }
        let error = read("s.json", "[{\"id\": \"a\",\n \"promt\": 1}]").unwrap_err();
        assert!(error.starts_with("s.json:2:8: unknown key `promt`; did you mean `prompt`?"), "{error}");
    }
}

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;
use run_agent_core::cause::Cause;
use run_agent_core::event::{Event, LoopEnd, LoopStart, RunEnd, RunIntent, RunStart, Usage};
use run_agent_core::testkit::MemoryStore;
use run_agent_core::world::Task;
use run_agent_core::{Draft, Durability, Kind, Parent, ProjectId, RunId, TaskId, Timestamp};

use super::*;
use crate::{TaskView, Tree};

/// A root whose streams live in memory and whose checkpoints lie in a folder.
struct Scene {
    tree: Tree,
    name: TaskName,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        let tree = Tree {
            layout,
            store: Arc::new(MemoryStore::new()),
            durability: Durability::None,
            sync_every: std::time::Duration::ZERO,
        };
        let name = TaskName {
            project: ProjectId::parse("p").unwrap(),
            task: TaskId::parse("task-20261121-093000-t").unwrap(),
        };
        Self { tree, name, _folder: folder }
    }

    fn with(drafts: Vec<Draft>) -> Self {
        let scene = Self::new();
        scene.append(drafts);
        scene
    }

    fn stream(&self) -> Arc<dyn Stream> {
        self.tree.store.open(&self.name.key()).unwrap()
    }

    fn append(&self, drafts: Vec<Draft>) {
        self.stream().append(drafts, Durability::None).unwrap();
    }

    fn view(&self) -> TaskView {
        TaskView::open(&self.tree, &self.name).unwrap()
    }

    fn path(&self) -> PathBuf {
        self.tree.layout.checkpoint(&self.name.project, &self.name.task)
    }

    fn kept(&self) -> Option<Checkpoint> {
        let load = Keeper::new(&self.tree.layout, &self.name).load(|| self.tree.store.open(&self.name.key()));
        load.unwrap().map(|(checkpoint, _)| checkpoint)
    }

    /// The task as somebody folds it who has no checkpoint.
    fn whole_fold(&self) -> Task {
        let bytes = std::fs::read(self.path()).ok();
        let _ = std::fs::remove_file(self.path());
        let task = self.view().task().clone();
        if let Some(bytes) = bytes {
            std::fs::write(self.path(), bytes).unwrap();
        }
        task
    }
}

fn run(n: u32) -> RunId {
    RunId::new(Timestamp::UNIX_EPOCH, 1, n)
}

fn post(kind: Kind, body: &str) -> Draft {
    let Scene { name, .. } = Scene::new();
    Draft::new(kind, name.project, Some(name.task), body)
}

fn facts(count: usize) -> Vec<Draft> {
    (0..count).map(|n| post(Kind::FACT, &n.to_string())).collect()
}

fn draft() -> impl Strategy<Value = Draft> {
    let Scene { name, .. } = Scene::new();
    let event = prop_oneof![
        proptest::option::of(1u32..4)
            .prop_map(|attempt| Event::RunIntent(RunIntent { attempt, ..RunIntent::default() })),
        Just(Event::RunStart(Box::new(RunStart { pid: 7, ..RunStart::default() }))),
        Just(Event::RunEnd(RunEnd { exit_code: Some(0), ..RunEnd::default() })),
        Just(Event::LoopStart(LoopStart::default())),
        Just(Event::LoopEnd(LoopEnd::default())),
        any::<u64>().prop_map(|n| Event::RunUsage(Usage { input_tokens: n, ..Usage::default() })),
    ];
    prop_oneof![
        3 => (event, 1u32..5)
            .prop_map(move |(event, n)| event.draft(&name.scope(Some(run(n))), &Cause::Timer("t".into()), "line")),
        2 => (prop_oneof![Just(Kind::QUESTION), Just(Kind::ANSWER), Just(Kind::FACT)], ".{0,12}", 0i128..60).prop_map(
            |(kind, body, n)| {
                let mut draft = post(kind, &body);
                // Ids as the store in memory gives them.
                let asked = Timestamp::from_nanosecond(1_790_000_000_000_000_000 + n).unwrap();
                draft.parents = vec![Parent::new(MsgId::new(asked, 1, 1), None)];
                draft
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn a_checkpoint_and_the_rest_equal_the_whole_fold_for_any_cut(
        drafts in proptest::collection::vec(draft(), 1..40), cut in any::<prop::sample::Index>()
    ) {
        let cut = 1 + cut.index(drafts.len());
        let scene = Scene::with(drafts[..cut].to_vec());
        let mut early = scene.view();
        early.write_checkpoint();
        let kept = scene.kept().unwrap().world;
        prop_assert_eq!(kept.task(&scene.name.project, &scene.name.task), Some(early.task()));
        prop_assert_eq!(early.task(), &scene.whole_fold(), "writing it changes nothing");
        scene.append(drafts[cut..].to_vec());
        prop_assert!(scene.kept().is_some(), "it still holds when more was appended");
        let late = scene.view();
        early.fold().unwrap();
        prop_assert_eq!(late.task(), &scene.whole_fold());
        prop_assert_eq!(early.task(), late.task());
    }
}

#[test]
fn a_checkpoint_is_written_when_it_spares_enough_and_not_for_each_entry() {
    let scene = Scene::with(facts(511));
    let mut view = scene.view();
    assert!(!scene.path().exists(), "a short stream has none");
    scene.append(facts(1));
    view.fold().unwrap();
    let first = std::fs::read(scene.path()).unwrap();
    assert_eq!(scene.kept().unwrap().world.projects.len(), 1);
    scene.append(facts(400));
    view.fold().unwrap();
    scene.view();
    assert_eq!(std::fs::read(scene.path()).unwrap(), first, "not enough came since");
    scene.append(facts(400));
    scene.view();
    assert_ne!(std::fs::read(scene.path()).unwrap(), first);
    let second = std::fs::read(scene.path()).unwrap();
    view.fold().unwrap();
    assert_eq!(std::fs::read(scene.path()).unwrap(), second, "another process has written it");
}

#[test]
fn what_came_before_a_view_was_opened_is_history_with_and_without_a_checkpoint() {
    for count in [20, 600] {
        let scene = Scene::with(facts(count));
        for _ in 0..2 {
            let mut view = scene.view();
            assert!(view.refresh().unwrap().is_empty());
            scene.append(facts(3));
            assert_eq!(view.refresh().unwrap().len(), 3);
            assert!(view.refresh().unwrap().is_empty());
        }
    }
}

#[test]
fn every_changed_byte_and_every_cut_of_the_file_lead_to_a_new_fold() {
    let mut drafts = facts(5);
    drafts.push(post(Kind::QUESTION, "which?"));
    let scene = Scene::with(drafts);
    scene.view().write_checkpoint();
    let whole = scene.whole_fold();
    let bytes = std::fs::read(scene.path()).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        for file in [&changed[..], &bytes[..at]] {
            std::fs::write(scene.path(), file).unwrap();
            assert_eq!(scene.kept(), None, "byte {at}");
            assert_eq!(scene.view().task(), &whole, "byte {at}");
        }
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_program_or_stream_is_dropped() {
    let scene = Scene::with(facts(3));
    scene.view().write_checkpoint();
    let bytes = std::fs::read(scene.path()).unwrap();
    let (header, content) = sealed::unseal::<Header>(&bytes).unwrap();
    let rewrite = |change: &dyn Fn(&mut Header)| {
        let (mut header, _) = sealed::unseal::<Header>(&bytes).unwrap();
        change(&mut header);
        sealed::write(&scene.path(), &header, content).unwrap();
        scene.kept().is_some()
    };
    let first = scene.stream().read(Cursor::START, 1).unwrap().entries.remove(0);
    assert!(rewrite(&|_| {}), "the same again holds");
    assert!(!rewrite(&|header| header.kind = "roster".to_owned()));
    assert!(!rewrite(&|header| header.format += 1));
    assert!(!rewrite(&|header| header.world += 1));
    assert!(!rewrite(&|header| header.incarnation += 1));
    assert!(!rewrite(&|header| header.last_at = first.at));
    assert!(!rewrite(&|header| header.last_id = first.message.id.clone()));
    assert!(!rewrite(&|header| header.last_crc32 = "00000000".to_owned()));
    assert!(!rewrite(&|header| header.cursor = first.at));
    assert!(!rewrite(&|header| (header.last_at, header.cursor) = (first.at, first.next)));
    assert_eq!(header.messages, 3);
}

#[test]
fn damage_is_kept_with_the_world() {
    let scene = Scene::with(facts(3));
    let mut view = scene.view();
    let damage = Damage {
        at: Cursor::new(1),
        next: Cursor::new(9),
        place: "a file at byte 1".to_owned(),
        what: "no entry".to_owned(),
        shown: None,
    };
    view.damage.push(damage.clone());
    view.write_checkpoint();
    assert_eq!(scene.view().damage, [damage]);
}

#[test]
fn a_folder_that_cannot_be_written_costs_nothing_but_the_checkpoint() {
    let scene = Scene::with(facts(600));
    std::fs::write(scene.tree.layout.root().join(".run-agent"), "a file in the way").unwrap();
    assert_eq!(scene.view().task().thread.messages(), 600);
    assert!(!scene.path().exists());
}

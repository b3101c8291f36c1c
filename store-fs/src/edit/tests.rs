use run_agent_core::{Draft, Kind, Message, MsgId, ProjectId, Timestamp};

use super::*;
use crate::markdown;
use crate::scan::{self, Found, Source};

fn key() -> StreamKey {
    StreamKey::project(ProjectId::parse("p").unwrap())
}

fn entry(n: i64, body: &str) -> String {
    let ts = Timestamp::from_second(n).unwrap();
    let content = Draft::new(Kind::FACT, key().project, None, body);
    let mut out = Vec::new();
    markdown::encode(&mut out, &Message { id: MsgId::new(ts, 1, 1), ts, content });
    String::from_utf8(out).unwrap()
}

fn bodies(bytes: &[u8]) -> Vec<String> {
    let scan = scan::forward(bytes, Source::of(&key()), usize::MAX);
    let text = |found: &Found| match found {
        Found::Entry { message, .. } => message.content.body.clone(),
        Found::Damage { .. } => "<damage>".to_owned(),
    };
    scan.found.iter().map(text).collect()
}

fn check(original: &str, edited: &str) -> Checked {
    let mut checked = reseal(edited.as_bytes(), original.as_bytes(), &key());
    let before = reseal(original.as_bytes(), original.as_bytes(), &key()).findings;
    checked.findings.retain(|f| !before.iter().any(|old| old.what == f.what && old.head == f.head));
    checked.gone = gone(original.as_bytes(), &checked.bytes, &key());
    checked
}

#[test]
fn an_entry_that_was_changed_is_sealed_again_and_the_others_stay_byte_for_byte() {
    let (one, two, three) = (entry(1, "one"), entry(2, "two\n---\nmore"), entry(3, "three"));
    let original = [one.as_str(), &two, &three].concat();
    for (from, to, wanted) in [
        ("\nthree\n", "\nTHREE\n", ["one", "two\n---\nmore", "THREE"]),
        ("\none\n", "\none\nand a half\n", ["one\nand a half", "two\n---\nmore", "three"]),
        ("\none\n", "\none\n\n", ["one\n", "two\n---\nmore", "three"]),
        ("\none\n", "\na\n---\nb\n", ["a\n---\nb", "two\n---\nmore", "three"]),
        ("\none\n", "\na\n---\n---\nb\n", ["a\n---\n---\nb", "two\n---\nmore", "three"]),
        ("\\---\nmore", "\\---\nless", ["one", "two\n---\nless", "three"]),
        ("\nthree\n", "\nthree", ["one", "two\n---\nmore", "three"]),
    ] {
        let edited = original.replace(from, to);
        let checked = check(&original, &edited);
        assert_eq!(bodies(&checked.bytes), wanted, "{from:?} to {to:?}");
        assert_eq!((checked.resealed, checked.findings), (1, vec![]), "{from:?} to {to:?}");
    }
    assert_eq!(check(&original, &original).bytes, original.as_bytes());
    assert_eq!(check(&original, &original).resealed, 0);
}

#[test]
fn fields_and_whole_entries_may_be_changed_too() {
    let original = [entry(1, "one"), entry(2, "two"), entry(3, "three")].concat();
    let edited = original.replacen("type: \"FACT\"", "type: \"DECISION\"", 1);
    let checked = check(&original, &edited);
    assert_eq!((checked.resealed, checked.findings.len()), (1, 0));
    assert!(String::from_utf8(checked.bytes).unwrap().contains("DECISION"));
    let gone = original.replace(&entry(2, "two"), "");
    let checked = check(&original, &gone);
    assert_eq!(bodies(&checked.bytes), ["one", "three"]);
    assert_eq!((checked.findings, checked.gone), (vec![], 1));
}

#[test]
fn text_that_is_no_bus_any_more_is_told_and_what_is_gone_is_counted() {
    let by_hand = "---\ntype: NOTE\n---\nby hand\n";
    let original = [entry(1, "one"), by_hand.to_owned(), entry(2, "two")].concat();
    for (edited, gone, is_broken) in [
        (String::new(), 3, false),
        ("\u{1}\u{2} noise\nand more\n".to_owned(), 3, true),
        (original.replace("\n---\n", "\n---x\n"), 3, true),
        (original.replacen("---\n", "---x\n", 1), 2, true),
        (format!("{original}---\nx\n"), 0, false),
        (original.clone(), 0, false),
    ] {
        let checked = check(&original, &edited);
        assert_eq!((checked.gone, !checked.findings.is_empty()), (gone, is_broken), "{edited:?} {checked:?}");
    }
}

#[test]
fn what_the_edit_broke_is_told_with_its_line_and_what_was_broken_before_is_not() {
    let (one, two) = (entry(1, "one"), entry(2, "two"));
    let original = [one.as_str(), &two].concat();
    let no_yaml = original.replacen("type: \"FACT\"", "type: \"FACT", 1);
    let findings = check(&original, &no_yaml).findings;
    assert_eq!(findings.iter().map(|f| f.line).collect::<Vec<_>>(), [1], "{findings:?}");
    let turned = [two.as_str(), &one].concat();
    let findings = check(&original, &turned).findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].line, two.lines().count() + 1);

    let damaged =
        [one.as_str(), "---\nmsg_id: \"x\"\nbytes: 1\ncrc32: \"00000000\"\n---\nxy\n", &two].concat();
    let edited = damaged.replace("\ntwo\n", "\nTWO\n");
    let checked = check(&damaged, &edited);
    assert_eq!((checked.resealed, checked.findings), (1, vec![]));
    assert!(String::from_utf8(checked.bytes).unwrap().contains("00000000"), "damage is not whitewashed");
}

#[test]
fn what_another_hand_wrote_is_left_alone() {
    let foreign = "a preamble\n---\ntype: NOTE\n---\nby hand\n";
    let original = [foreign, &entry(1, "one")].concat();
    let edited = original.replace("by hand", "by another hand");
    let checked = check(&original, &edited);
    assert_eq!(String::from_utf8(checked.bytes).unwrap(), edited);
    assert_eq!((checked.resealed, checked.findings), (0, vec![]));
}

struct Scene {
    _folder: tempfile::TempDir,
    layout: Layout,
    options: Options,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("p")).unwrap();
        let layout = Layout::new(folder.path().to_owned());
        Self { _folder: folder, layout, options: Options::default() }
    }

    fn stream(&self) -> std::sync::Arc<dyn run_agent_core::Stream> {
        FsStore::new(self.layout.clone(), self.options.clone()).open(&key()).unwrap()
    }

    fn post(&self, body: &str) {
        let draft = Draft::new(Kind::FACT, key().project, None, body);
        self.stream().append(vec![draft], Durability::None).unwrap();
    }

    fn begin(&self) -> Edit {
        Edit::begin(&self.layout, &self.options, &key()).unwrap()
    }

    fn bodies(&self) -> Vec<String> {
        let page = self.stream().last(100).unwrap();
        assert_eq!(page.damage, []);
        page.entries.into_iter().map(|entry| entry.message.content.body).collect()
    }
}

fn change(edit: &Edit, from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(edit.original().to_vec()).unwrap();
    edit.check(text.replace(from, to).as_bytes()).bytes
}

#[test]
fn what_was_appended_meanwhile_stands_behind_the_edit_and_readers_learn_of_it() {
    let scene = Scene::new();
    scene.post("one");
    let reader = scene.stream();
    let end = reader.end().unwrap();
    let edit = scene.begin();
    scene.post("two");
    assert!(edit.finish(&change(&edit, "\none\n", "\nONE of them\n")).unwrap() > 0);
    assert_eq!(scene.bodies(), ["ONE of them", "two"]);
    let moved = reader.read(end, 1).unwrap_err();
    assert!(matches!(moved, run_agent_core::store::ReadError::Incarnation { .. }), "{moved}");
    scene.post("three");
    assert_eq!(scene.bodies(), ["ONE of them", "two", "three"]);
}

#[test]
fn a_bus_that_is_a_link_is_not_edited() {
    let scene = Scene::new();
    scene.post("one");
    let edit = scene.begin();
    let outside = scene.layout.root().join("outside.md");
    std::fs::rename(&edit.bus, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &edit.bus).unwrap();
    let begun = Edit::begin(&scene.layout, &scene.options, &key()).map(drop);
    for refused in [begun, edit.finish(&change(&edit, "\none\n", "\nno\n")).map(drop)] {
        let error = refused.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("symbolic link"), "{error}: {cause}");
    }
    assert_eq!(std::fs::read(&outside).unwrap(), edit.original());
}

#[test]
fn a_bus_that_was_rotated_or_edited_meanwhile_is_left_as_it_is() {
    let scene = Scene::new();
    scene.post("one");
    let (first, second, third) = (scene.begin(), scene.begin(), scene.begin());
    first.finish(&change(&first, "\none\n", "\nuno\n")).unwrap();
    let refused = second.finish(&change(&second, "\none\n", "\nun\n")).unwrap_err();
    assert!(matches!(refused, EditError::Changed { .. }), "{refused}");
    scene.stream().rotate().unwrap();
    scene.post("two");
    let refused = third.finish(b"").unwrap_err();
    assert!(matches!(refused, EditError::Changed { .. }), "{refused}");
    let last = scene.begin();
    last.finish(&change(&last, "\ntwo\n", "\ndue\n")).unwrap();
    assert_eq!(scene.bodies(), ["uno", "due"], "archives stay what they are");
}

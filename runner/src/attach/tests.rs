use std::sync::Arc;

use run_agent_core::layout::Layout;
use run_agent_core::testkit::MemoryStore;
use run_agent_core::{Kind, MsgId, ProjectId};

use super::*;

struct Scene {
    folder: tempfile::TempDir,
    tree: Tree,
    key: StreamKey,
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let tree = Tree {
        layout: Layout::new(folder.path().to_owned()),
        store: Arc::new(MemoryStore::new()),
        durability: Durability::None,
        sync_every: std::time::Duration::ZERO,
    };
    std::fs::create_dir(folder.path().join("p")).unwrap();
    Scene { folder, tree, key: StreamKey::project(ProjectId::parse("p").unwrap()) }
}

impl Scene {
    fn draft(&self, body: impl Into<String>) -> Draft {
        Draft::new(Kind::FACT, self.key.project.clone(), None, body)
    }

    fn message(content: Draft) -> Message {
        Message { id: MsgId::parse("MSG-1").unwrap(), ts: Timestamp::UNIX_EPOCH, content }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join("p").join(name)
    }
}

#[test]
fn a_large_body_is_cut_at_a_character_and_comes_back_whole() {
    let scene = scene();
    let body = format!("x{}", "é".repeat(BODY_MAX));
    let mut draft = scene.draft(body.clone());
    fit(&scene.tree, &scene.key, &mut draft, Durability::Always).unwrap();
    assert_eq!(draft.body.len(), HEAD_MAX - 1, "the limit stands in the middle of a character");
    assert_eq!(draft.meta[META_BYTES], body.len().to_string());
    let name = draft.attachment_path.clone().unwrap();
    assert!(name.starts_with(PREFIX) && name.ends_with("-fact.txt"), "{name}");
    let mut message = Scene::message(draft);
    let rest = join(&scene.tree, &scene.key, &mut message).unwrap();
    assert_eq!(rest, Payload { text: String::new(), left_out: None });
    assert_eq!(message.content.body, body);
}

#[test]
fn a_body_at_the_limit_stays_in_the_message() {
    let scene = scene();
    let mut draft = scene.draft("x".repeat(BODY_MAX));
    fit(&scene.tree, &scene.key, &mut draft, Durability::None).unwrap();
    assert_eq!((draft.body.len(), draft.attachment_path), (BODY_MAX, None));
}

#[test]
fn any_file_is_attached_and_what_is_no_text_is_replaced() {
    let scene = scene();
    let source = scene.folder.path().join("Bild 1 (neu).ÄPNG");
    std::fs::write(&source, b"\x89PNG\xff\0").unwrap();
    let mut draft = scene.draft("");
    file(&scene.tree, &scene.key, &mut draft, &source, Durability::None).unwrap();
    assert_eq!(draft.body, "Bild 1 (neu).ÄPNG");
    let name = draft.attachment_path.clone().unwrap();
    assert!(name.ends_with("-Bild-1-neu.PNG"), "{name}");
    assert_eq!(std::fs::read(scene.beside(&name)).unwrap(), b"\x89PNG\xff\0");
    let mut message = Scene::message(draft);
    let rest = join(&scene.tree, &scene.key, &mut message).unwrap();
    assert_eq!(rest.text, "\u{fffd}PNG\u{fffd}\0");
    assert_eq!(message.content.body, "Bild 1 (neu).ÄPNG", "the payload stands beside the text");
    let mut both = scene.draft("x".repeat(BODY_MAX + 1));
    both.attachment_path = Some(name);
    assert!(matches!(
        fit(&scene.tree, &scene.key, &mut both, Durability::None),
        Err(AttachError::TextBesideFile { .. })
    ));
}

#[test]
fn a_forged_path_reads_nothing() {
    let scene = scene();
    std::fs::write(scene.folder.path().join("ATTACH-secret"), "secret").unwrap();
    std::fs::write(scene.beside("TASK.md"), "secret").unwrap();
    std::os::unix::fs::symlink(scene.folder.path().join("ATTACH-secret"), scene.beside("ATTACH-link"))
        .unwrap();
    std::fs::create_dir(scene.beside("ATTACH-folder")).unwrap();
    nix::unistd::mkfifo(&scene.beside("ATTACH-pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for forged in [
        "../ATTACH-secret",
        "ATTACH-x/../../ATTACH-secret",
        "./TASK.md",
        "TASK.md",
        "ATTACH-link",
        "ATTACH-folder",
        "ATTACH-pipe",
        "ATTACH-missing",
        "ATTACH-nul\0",
        "",
        "/etc/passwd",
    ] {
        let mut draft = scene.draft("kept");
        draft.attachment_path = Some(forged.to_owned());
        let mut message = Scene::message(draft);
        let rest = join(&scene.tree, &scene.key, &mut message).unwrap();
        assert_eq!((rest.text.as_str(), message.content.body.as_str()), ("", "kept"), "{forged}");
        assert!(rest.left_out.is_some(), "{forged}");
    }
}

#[test]
fn no_more_is_joined_than_fits_and_the_reader_is_told() {
    let scene = scene();
    let file = File::create(scene.beside("ATTACH-large.txt")).unwrap();
    file.set_len(TEXT_MAX + 5).unwrap();
    let mut draft = scene.draft("large");
    draft.attachment_path = Some("ATTACH-large.txt".to_owned());
    let payload = payload(&scene.tree, &scene.key, &Scene::message(draft)).unwrap();
    assert_eq!(payload.text.len() as u64, TEXT_MAX);
    assert!(payload.left_out.unwrap().starts_with("5 bytes"), "it says how much is left out");
}

#[test]
fn names_are_plain() {
    for (name, wanted) in [
        ("report", "report"),
        ("../../etc/passwd", "etc-passwd"),
        ("-rf *", "rf"),
        ("..", "file"),
        ("漢字", "file"),
        ("a.b..", "a.b"),
    ] {
        assert_eq!(plain(name, 48, "file"), wanted);
    }
    assert_eq!(plain(&"x".repeat(300), 48, "file").len(), 48);
}

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(60);

struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn versions(&self) -> Versions {
        Versions::of(&Layout::new(self.path("root")))
    }

    /// A program that is a shell script.
    fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn keep(&self, program: &Path, version: &str) {
        self.versions().keep(program, Stamp::of(program).unwrap(), Some(version.to_owned()));
    }

    fn known(&self, program: &Path) -> Option<String> {
        self.versions().known(program).and_then(|known| known.version)
    }
}

#[test]
fn an_answer_is_known_until_the_program_changes() {
    let scene = Scene::new();
    let program = scene.program("agent", "echo 1.2.3");
    assert_eq!(scene.known(&program), None);
    scene.keep(&program, "1.2.3");
    assert_eq!(scene.known(&program).as_deref(), Some("1.2.3"));
    assert!(scene.versions().known(&program).unwrap().is_fresh());
    let program = scene.program("agent", "echo 1.2.4");
    assert_eq!(scene.known(&program), None);
}

#[test]
fn another_file_of_the_same_size_and_time_is_another_program() {
    let scene = Scene::new();
    let program = scene.program("agent", "echo 1.2.3");
    let npm = std::time::UNIX_EPOCH + Duration::from_secs(499_162_500);
    let set_time = |path: &Path| File::options().write(true).open(path).unwrap().set_modified(npm).unwrap();
    set_time(&program);
    scene.keep(&program, "1.2.3");
    assert!(scene.known(&program).is_some());
    let next = scene.program("next", "echo 1.2.4");
    set_time(&next);
    std::fs::rename(next, &program).unwrap();
    assert_eq!(scene.known(&program), None);
}

#[test]
fn a_package_that_says_another_version_of_itself_is_another_program() {
    let scene = Scene::new();
    let launcher = scene.program("package/bin/agent.js", "exec something");
    std::fs::write(scene.path("package/package.json"), r#"{"version":"1.2.3"}"#).unwrap();
    let program = scene.path("agent");
    symlink(launcher, &program).unwrap();
    scene.keep(&program, "1.2.3");
    assert_eq!(scene.known(&program).as_deref(), Some("1.2.3"));
    std::fs::write(scene.path("package/package.json"), r#"{"version":"1.2.4"}"#).unwrap();
    assert_eq!(scene.known(&program), None);
}

#[test]
fn a_link_that_moves_to_another_version_is_another_program_and_names_of_one_launcher_are_two() {
    let scene = Scene::new();
    let (one, two) = (scene.program("1/agent", "echo 1.0.0"), scene.program("2/agent", "echo 2.0.0"));
    let link = scene.path("agent");
    symlink(&one, &link).unwrap();
    scene.keep(&link, "1.0.0");
    std::fs::remove_file(&link).unwrap();
    symlink(two, &link).unwrap();
    assert_eq!(scene.known(&link), None);
    let other = scene.path("other");
    symlink(&one, &other).unwrap();
    scene.keep(&other, "7.0.0");
    scene.keep(&one, "1.0.0");
    assert_eq!(
        (scene.known(&other).as_deref(), scene.known(&one).as_deref()),
        (Some("7.0.0"), Some("1.0.0"))
    );
}

#[test]
fn a_damaged_or_missing_file_is_no_answer() {
    let scene = Scene::new();
    let program = scene.program("agent", "echo 1.2.3");
    scene.keep(&program, "1.2.3");
    let file = scene.versions().file(&program);
    let whole = std::fs::read(&file).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"\0\0\0", b"{}\n"] {
        std::fs::write(&file, damaged).unwrap();
        assert_eq!(scene.known(&program), None);
    }
    std::fs::write(&file, &whole).unwrap();
    assert!(scene.known(&program).is_some());
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    assert_eq!(scene.known(&program), None);
    std::fs::write(scene.path("root/.run-agent/versions"), "a file where the folder was").unwrap();
    scene.keep(&program, "1.2.3");
    assert_eq!((scene.known(&program), scene.versions().lock_to_ask(&program).is_none()), (None, true));
}

#[test]
fn an_answer_of_yesterday_is_used_and_asked_for_again() {
    let scene = Scene::new();
    let program = scene.program("agent", "echo 1.2.3");
    for (hours, fresh) in [(-23, true), (-25, false), (1, false)] {
        let asked = Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        let stamp = Stamp::of(&program).unwrap();
        let (kind, version) = (KIND.to_owned(), Some("1.2.3".to_owned()));
        let answer = Answer { kind, format: FORMAT, program: program.clone(), stamp, asked, version };
        sealed::write(&scene.versions().file(&program), &answer, &[]).unwrap();
        assert_eq!(scene.known(&program).as_deref(), Some("1.2.3"));
        assert_eq!(scene.versions().lock_to_ask(&program).is_none(), fresh, "{hours} h");
    }
}

#[test]
fn one_asks_at_a_time_and_nobody_whose_answer_is_there() {
    let scene = Scene::new();
    let program = scene.program("agent", "echo 1.2.3");
    let first = scene.versions().lock_to_ask(&program);
    assert!(first.is_some());
    assert!(scene.versions().lock_to_ask(&program).is_none(), "somebody asks");
    drop(first);
    assert!(scene.versions().lock_to_ask(&program).is_some(), "nobody asks any more");
    scene.versions().keep(&program, Stamp::of(&program).unwrap(), None);
    assert!(
        scene.versions().lock_to_ask(&program).is_none(),
        "it gave no answer, and is left alone for a day"
    );
}

#[test]
fn many_who_keep_their_answers_at_once_leave_a_whole_one() {
    let scene = Scene::new();
    let program = scene.program("agent", "echo 1.2.3");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..50).for_each(|_| scene.keep(&program, "1.2.3")));
        }
    });
    assert_eq!(scene.known(&program).as_deref(), Some("1.2.3"));
}

#[test]
fn a_program_is_asked_and_answers_or_says_why_not() {
    let scene = Scene::new();
    let ask_script = |script: &str| ask(&scene.program("agent", script), LONG, None);
    assert_eq!(ask_script("[ \"$1\" = --version ] && echo agent 1.2.3").unwrap(), "1.2.3");
    assert!(matches!(ask_script("echo 1.2.3; exit 3"), Err(NoAnswer::Failed(_))));
    assert!(matches!(ask_script("echo 1.2.3 >&2"), Err(NoAnswer::NoVersion)));
    assert!(matches!(ask_script("kill -KILL $$"), Err(NoAnswer::Failed(_))));
    assert!(matches!(ask(&scene.path("none"), LONG, None), Err(NoAnswer::NotStarted(_))));
    // What it leaves behind holds the pipe, and keeps nobody waiting.
    assert_eq!(ask_script("sleep 600 & echo 1.2.3").unwrap(), "1.2.3");
}

#[test]
fn a_program_that_hangs_is_ended() {
    let program = Scene::new();
    let program = program.program("agent", "sleep 600");
    assert!(matches!(ask(&program, Duration::from_millis(50), None), Err(NoAnswer::Late(_))));
}

#[test]
fn a_question_is_given_up_when_its_asker_is_gone_and_nothing_is_left_of_it() {
    let scene = Scene::new();
    let program = scene
        .program("agent", "sleep 600 & echo $! >\"${0%/*}/new\"; mv \"${0%/*}/new\" \"${0%/*}/pid\"; wait");
    let (until, asker) = std::io::pipe().unwrap();
    let wait_for = |what: &dyn Fn() -> bool| {
        let deadline = std::time::Instant::now() + LONG;
        while !what() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
    };
    let pid = std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&program, LONG, Some(std::os::fd::AsFd::as_fd(&until))));
        wait_for(&|| scene.path("pid").exists());
        drop(asker);
        let asked = asked.join().unwrap();
        assert!(matches!(asked, Err(NoAnswer::GivenUp)), "{asked:?}");
        std::fs::read_to_string(scene.path("pid")).unwrap().trim().parse().unwrap()
    });
    wait_for(&|| crate::supervise::os::ProcessId::now(pid).is_none());
}

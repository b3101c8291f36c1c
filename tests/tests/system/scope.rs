//! Supervisors under a service manager: a scope of their own where one can be had, and never a start that fails for it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use run_agent_tests::{Root, alive, name, shell_args, text_of, until};

/// A user's service manager that is only a socket, and a `systemd-run` that is this script.
struct Manager {
    root: Root,
    script: PathBuf,
    _socket: UnixListener,
}

impl Manager {
    fn new(script: &str) -> Self {
        let root = Root::new();
        let (bin, systemd) = (root.scratch().join("bin"), root.scratch().join("runtime/systemd"));
        std::fs::create_dir(&bin).unwrap();
        std::fs::create_dir_all(&systemd).unwrap();
        let socket = UnixListener::bind(systemd.join("private")).unwrap();
        let path = bin.join("systemd-run");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { root, script: bin, _socket: socket }
    }

    fn command(&self, args: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap();
        let mut command = self.root.command(args);
        command
            .env("PATH", format!("{}:{path}", self.script.display()))
            .env("XDG_RUNTIME_DIR", self.root.scratch().join("runtime"))
            .env("CALLS", self.calls());
        command
    }

    fn calls(&self) -> PathBuf {
        self.root.scratch().join("calls")
    }

    /// A job that must succeed, whatever the manager does.
    fn job(&self) {
        let task = name("scope");
        let prompt = "echo start >> \"$JRUN_TASK_FOLDER/starts\"; echo well";
        let done = self.command(&shell_args("job", &task, prompt, &[])).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        assert_eq!(String::from_utf8_lossy(&done.stdout), "well\n");
        let starts = text_of(&self.root.tree().task(&task).folder().join("starts"));
        assert_eq!(starts, "start", "the agent starts once");
        assert_eq!(self.root.count(&task, "RUN_START"), 1);
    }
}

#[test]
fn a_supervisor_gets_a_scope_of_its_own_where_the_user_has_a_service_manager() {
    let manager = Manager::new(
        "#!/bin/sh\necho \"$*\" >> \"$CALLS\"\nwhile [ \"$1\" != -- ]; do shift; done; shift\nexec \"$@\"\n",
    );
    manager.job();
    let calls = text_of(&manager.calls());
    assert_eq!(calls.lines().count(), 1, "{calls}");
    assert!(calls.starts_with("--user --scope --quiet --collect"), "{calls}");
    assert!(calls.contains("--unit=run-agent-supervisor-"), "{calls}");
    assert!(calls.contains("run-agent _supervise"), "{calls}");
}

#[test]
fn a_service_manager_that_fails_costs_only_the_scope() {
    let manager = Manager::new("#!/bin/sh\necho \"$*\" >> \"$CALLS\"\necho 'no bus' >&2\nexit 1\n");
    manager.job();
    assert_eq!(text_of(&manager.calls()).lines().count(), 1);
}

#[test]
fn a_service_manager_that_hangs_is_not_waited_for() {
    let manager = Manager::new("#!/bin/sh\necho $$ >> \"$CALLS\"\nexec sleep 1000\n");
    manager.job();
    let hung: u32 = text_of(&manager.calls()).parse().unwrap();
    until("what hangs is ended", || (!alive(hung)).then_some(()), String::new);
}

#[test]
fn without_a_service_manager_nobody_is_asked() {
    let manager = Manager::new("#!/bin/sh\necho \"$*\" >> \"$CALLS\"\nexit 1\n");
    std::fs::remove_file(manager.root.scratch().join("runtime/systemd/private")).unwrap();
    manager.job();
    assert!(!manager.calls().exists());
}

#[test]
fn no_shipped_unit_ends_more_than_its_own_process() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let mut units = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let modes: Vec<&str> = text.lines().filter(|line| line.starts_with("KillMode=")).collect();
        assert_eq!(modes, ["KillMode=process"], "{}", path.display());
        assert!(text.lines().any(|line| line.starts_with("ExecStart=")), "{}", path.display());
        units += 1;
    }
    assert!(units > 0);
}

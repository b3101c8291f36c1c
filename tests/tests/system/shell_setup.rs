//! `shell-setup`: the start-up file comes back byte for byte, through links and with its mode.

use std::os::unix::fs::PermissionsExt;

use run_agent_tests::{Done, Root};

fn run(root: &Root, args: &[&str]) -> Done {
    let mut command = root.command(args);
    command.env("SHELL", "/usr/bin/bash").env_remove("ZDOTDIR").env_remove("XDG_CONFIG_HOME");
    Done::of(command.output().unwrap(), args)
}

#[test]
fn what_install_wrote_is_removed_byte_for_byte() {
    let root = Root::new();
    let home = root.scratch();
    std::fs::create_dir(home.join("dotfiles")).unwrap();
    let (real, link) = (home.join("dotfiles/bashrc"), home.join(".bashrc"));
    std::os::unix::fs::symlink("dotfiles/bashrc", &link).unwrap();
    for before in [&b"export A=1\n"[..], b"no newline at the end", b"", b"\xff\r\n"] {
        std::fs::write(&real, before).unwrap();
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        let dry = run(&root, &["shell-setup", "install", "--dry-run"]);
        assert!(dry.code == 0 && dry.stdout.contains("alias claude='run-agent wrap -- claude'"), "{dry:?}");
        assert_eq!(std::fs::read(&real).unwrap(), before);
        assert_eq!(run(&root, &["shell-setup", "install"]).code, 0);
        let installed = std::fs::read(&real).unwrap();
        assert!(installed.starts_with(before) && installed.len() > before.len());
        let again = run(&root, &["shell-setup", "install"]);
        assert!(again.stdout.contains("already"), "{again:?}");
        assert_eq!(std::fs::read(&real).unwrap(), installed, "installed once");
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(real.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(run(&root, &["shell-setup", "uninstall"]).code, 0);
        assert_eq!(std::fs::read(&real).unwrap(), before);
    }
    let left: Vec<_> = std::fs::read_dir(home.join("dotfiles")).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary file is left");
}

#[test]
fn a_file_that_was_not_there_is_gone_again() {
    let root = Root::new();
    for (shell, file) in [("bash", ".bashrc"), ("zsh", ".zshrc"), ("fish", ".config/fish/config.fish")] {
        let path = root.scratch().join(file);
        assert_eq!(run(&root, &["shell-setup", "install", "--shell", shell]).code, 0);
        assert!(path.exists(), "{shell}");
        assert_eq!(run(&root, &["shell-setup", "uninstall", "--shell", shell]).code, 0);
        assert!(!path.exists(), "{shell}");
        let none = run(&root, &["shell-setup", "uninstall", "--shell", shell]);
        assert_eq!(none.code, 0, "{none:?}");
    }
}

#[test]
fn the_aliases_start_the_command_through_wrap() {
    let root = Root::new();
    assert_eq!(run(&root, &["shell-setup", "install"]).code, 0);
    let bin = root.scratch().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("claude"), "#!/bin/sh\necho \"claude $* as $JRUN_ID\"\n").unwrap();
    std::fs::set_permissions(bin.join("claude"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let own = root.command(&[]).get_program().to_owned();
    let own = std::path::Path::new(&own).parent().unwrap().to_owned();
    let mut shell = std::process::Command::new("bash");
    let inner = root.command(&[]);
    shell.envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?)))).current_dir(root.scratch());
    let path = format!("{}:{}:{}", bin.display(), own.display(), std::env::var("PATH").unwrap());
    let out = shell.env("PATH", path).args(["-ic", "claude --help me\n"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.starts_with("claude --help me as 20"), "{out:?}");
    let task = root.only_task();
    assert_eq!(root.view(&task).task().runs.values().next().unwrap().agent, "claude");
}

#[test]
fn markers_that_do_not_belong_together_are_told_and_left() {
    let root = Root::new();
    let path = root.scratch().join(".bashrc");
    let text = "a\n# >>> run-agent shell-setup >>>\nb\n";
    std::fs::write(&path, text).unwrap();
    for verb in ["install", "uninstall"] {
        let done = run(&root, &["shell-setup", verb]);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(
            done.stderr.contains(".bashrc:2: a run-agent block begins here and does not end"),
            "{done:?}"
        );
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_start_up_file_that_is_a_dangling_link_or_a_pipe_is_left_alone() {
    let root = Root::new();
    let rc = root.scratch().join(".bashrc");
    std::os::unix::fs::symlink("nothing", &rc).unwrap();
    let done = run(&root, &["shell-setup", "install"]);
    assert_eq!((done.code, done.stderr.contains("is a link to nothing")), (2, true), "{done:?}");
    std::fs::remove_file(&rc).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&rc).status().unwrap().success());
    let done = run(&root, &["shell-setup", "install"]);
    assert_eq!((done.code, done.stderr.contains("not a regular file")), (2, true), "{done:?}");
}

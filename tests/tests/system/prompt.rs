//! What agents are told is true: every command of the preamble works as printed.

use run_agent_core::RunId;
use run_agent_tests::Root;

#[test]
fn every_command_of_the_preamble_works_as_printed() {
    let root = Root::new();
    // The agent runs each command line of its own preamble, after starting the child whose id some of them need.
    let prompt = r#"
        child=$(run-agent job --detach --agent shell --prompt "echo from the child")
        sed -n '/^---$/q; s/^  \(run-agent .*\)$/\1/p' "$JRUN_RUN_FOLDER/prompt.md" > "$JRUN_TASK_FOLDER/commands"
        while read -r line; do
            line=$(printf '%s' "$line" | sed "s/RUN_ID/$child/; s/--wait 90s/--wait 2s/; s/what the child is to do/true/")
            status=0; sh -c "$line" > out.txt 2>&1 || status=$?
            echo "$status $line" >> "$JRUN_TASK_FOLDER/results"
        done < "$JRUN_TASK_FOLDER/commands"
    "#;
    let done = root.run(&["task", "--project", "p", "--agent", "shell", "--prompt", prompt]);
    assert_eq!(done.code, 0, "one of the commands marks the task done: {done:?}");
    let name = root.only_task();
    let results = std::fs::read_to_string(root.tree().task(&name).folder().join("results")).unwrap();
    let commands: Vec<(&str, &str)> = results.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert!(commands.len() >= 8, "{results}");
    for (status, command) in commands {
        // Nobody answers the question: its command ends with 124, as the preamble says.
        let wanted = if command.contains(" ask ") { "124" } else { "0" };
        assert_eq!(status, wanted, "{command}\n{results}");
    }
}

#[test]
fn the_prompt_says_where_the_agent_is_and_refuses_nothing_that_shells_refuse() {
    let root = Root::new();
    let task = root.task_with(
        "where",
        "env | grep ^JRUN_ | sort; pwd; command -v run-agent; cat > \"$JRUN_RUN_FOLDER/stdin.md\"",
    );
    let view = root.view(&task);
    let (id, _) = view.task().runs.iter().next().unwrap();
    let paths = root.tree().run(&task, id);
    let prompt = std::fs::read_to_string(paths.prompt()).unwrap();
    assert_eq!(
        std::fs::read_to_string(paths.folder().join("stdin.md")).unwrap(),
        prompt,
        "stdin is the prompt file"
    );
    let (preamble, own) = prompt.split_once("\n---\n\n").unwrap();
    assert!(own.starts_with("env | grep"), "{own}");
    assert!(!preamble.contains("$(") && !preamble.contains('`'), "{preamble}");
    let output = std::fs::read_to_string(paths.output()).unwrap();
    for line in output.lines().filter(|line| line.starts_with("JRUN_")) {
        assert!(preamble.contains(line), "the preamble says {line}");
    }
    for wanted in [
        format!("JRUN_PROJECT_ID={}", task.project),
        format!("JRUN_TASK_ID={}", task.task),
        format!("JRUN_ID={id}"),
        format!("JRUN_TASK_FOLDER={}", root.tree().task(&task).folder().display()),
        format!("JRUN_RUN_FOLDER={}", paths.folder().display()),
        format!("JRUN_RUNS_DIR={}", root.tree().task(&task).runs().display()),
        format!("JRUN_MESSAGE_BUS={}", root.bus(&task).display()),
        format!("JRUN_ROOT={}", root.path().display()),
    ] {
        assert!(output.lines().any(|line| line == wanted), "{wanted} in {output}");
    }
    assert!(!output.contains("JRUN_PARENT_ID"), "absent for a run without a parent");
    for line in [
        format!("TASK_FOLDER={}", root.tree().task(&task).folder().display()),
        format!("RUN_FOLDER={}", paths.folder().display()),
    ] {
        assert!(preamble.lines().any(|l| l == line), "{line}");
    }
    assert!(RunId::parse(id.as_str()).is_ok());
}

#[test]
fn no_descriptor_of_ours_and_no_ignored_signal_reaches_the_agent() {
    let root = Root::new();
    let script = "for n in 3 4 5 6 7 8 9; do if [ -e /proc/$$/fd/$n ]; then echo \"leak $n\"; fi; done; while read -r line; do case $line in SigIgn*|SigBlk*) echo \"$line\";; esac; done < /proc/$$/status";
    // No other program: some shells block all signals for the moment in which they start one.
    let task = root.task_with("clean", script);
    let view = root.view(&task);
    let (id, _) = view.task().runs.iter().next().unwrap();
    let output = std::fs::read_to_string(root.tree().run(&task, id).output()).unwrap();
    assert_eq!(output.lines().count(), 2, "{output}");
    for line in output.lines() {
        let mask = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        // Signals 32 and 33 are the C library's own: no program can set them.
        assert_eq!(mask & !(0b11 << 31), 0, "{output}");
    }
}

#[test]
fn a_command_agent_gets_its_prompt_its_environment_and_its_token() {
    let root = Root::new();
    std::fs::create_dir_all(root.path()).unwrap();
    let config = r#"
        agent "mine" {
          type      = "command"
          argv      = ["sh", "-c", "head -c 3 {prompt_file}; wc -c < {prompt_file}; cat | wc -c; echo $MY_TOKEN $EXTRA", "x"]
          env       = { EXTRA = "more" }
          token     = "sesame-9471"
          token_env = "MY_TOKEN"
        }
    "#;
    std::fs::write(root.path().join("config.hcl"), config).unwrap();
    let done = root.run(&["job", "--project", "p", "--agent", "mine", "--prompt", "do it"]);
    assert_eq!(done.code, 0, "{done:?}");
    let name = root.only_task();
    let view = root.view(&name);
    let (id, _) = view.task().runs.iter().next().unwrap();
    let size = std::fs::metadata(root.tree().run(&name, id).prompt()).unwrap().len();
    assert_eq!(done.stdout, format!("You{size}\n{size}\nsesame-9471 more\n"));
    let folder = root.tree().run(&name, id).folder().to_owned();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "agent-stdout.txt" && path.file_name().unwrap() != "output.md" {
            let bytes = std::fs::read(&path).unwrap_or_default();
            assert!(
                !String::from_utf8_lossy(&bytes).contains("sesame"),
                "the token lies in {}",
                path.display()
            );
        }
    }
}

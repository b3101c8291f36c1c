//! Why loops stand as they do.

use std::process::Stdio;

use run_agent_tests::{kill, name, shell_args};

use super::{AT_WORK, causes, commands, situations};

situations! {
    fn a_loop_that_is_at_work(stage) {
        stage.drive(AT_WORK, &[]);
        stage.pid();
    }
    says "running" "RUN_START" ["is at work", "the loop was started by user"]

    fn a_second_attempt(stage) {
        let prompt = format!(
            "if [ -e \"$JRUN_TASK_FOLDER/x\" ]; then {AT_WORK}; fi; touch \
             \"$JRUN_TASK_FOLDER/x\"; exit 3"
        );
        stage.drive(&prompt, &[]);
        stage.pid();
    }
    says "running" "RUN_START" [
        "is at work", "the loop started it as attempt 2: the agent failed: exit code 3",
    ]

    fn a_killed_driver(stage) {
        stage.drive(AT_WORK, &[]);
        stage.pid();
        stage.kill_driver();
    }
    says "running" "LOOP_START" ["nobody drives the loop: its driver", "is at work"]
    and(answer) {
        assert!(commands(answer)[0].starts_with("run-agent task --task"), "{answer:#}");
        let inbox = stage.root.json(&["inbox", "--json"]);
        assert_eq!((&inbox["total"], &inbox["items"][0]["kind"]), (&1.into(), &"no_driver".into()), "{inbox:#}");
        stage.config("loop { adopt = \"never\" }\n");
        assert_eq!(stage.root.json(&["inbox", "--json"])["total"], 0, "nobody asked to be told of it");
    }

    fn a_loop_that_another_driver_took_up(stage) {
        stage.drive(AT_WORK, &[]);
        stage.pid();
        stage.kill_driver();
        stage.drive(AT_WORK, &[]);
        stage.until_told("SUPERVISOR_RESTART");
    }
    says "running" "RUN_START" ["is at work", "another driver took the loop up: driver lost"]

    fn a_stopped_loop(stage) {
        stage.drive(AT_WORK, &[]);
        stage.pid();
        let _ = stage.root.ok(&["stop", "--task", stage.task.task.as_str(), "--force"]);
    }
    says "stopped" "LOOP_END" ["the loop was stopped", "a stop of the whole task was asked for by user"]
    and(answer) {
        assert!(commands(answer)[0].starts_with("run-agent resume"), "{answer:#}");
    }

    fn a_loop_that_is_being_stopped(stage) {
        stage.drive(&format!("trap '' TERM; {AT_WORK}"), &[]);
        stage.pid();
        let mut stop = stage.root.command(&["stop", "--task", stage.task.task.as_str(), "--grace", "600s"]);
        let mut stop = stop.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        stage.until_told("LOOP_STOPPING");
        stop.kill().unwrap();
        stop.wait().unwrap();
    }
    says "running" "LOOP_STOPPING" ["a stop of the whole task was asked for by", "is at work"]

    fn a_loop_whose_root_run_was_stopped(stage) {
        stage.drive(AT_WORK, &[]);
        stage.pid();
        let _ = stage.root.ok(&["stop", "--run", &stage.root_run(), "--force"]);
        stage.driver_ends();
    }
    says "stopped" "LOOP_END" [
        "the loop ended because its root run was stopped", "was stopped", "a stop of the run was asked for by user",
    ]

    fn an_interrupted_loop(stage) {
        stage.drive(AT_WORK, &[]);
        stage.pid();
        kill(stage.driver(), "INT");
        stage.driver_ends();
    }
    says "running" "" ["1 run goes on without the loop", "is at work", "the loop's driver was interrupted"]

    fn an_exhausted_loop(stage) {
        stage.drive_to_its_end("echo the disk is full >&2; exit 7", &["--max-restarts", "1"]);
    }
    says "failed" "LOOP_END" [
        "the loop gave up: max_restarts was reached after 1 restart", "exit code 7: the disk is full",
    ]
    and(answer) {
        assert_eq!(commands(answer)[1], format!("run-agent resume --task {}", stage.task.task));
        let status = stage.root.ok(&["status", stage.task.task.as_str()]);
        assert!(status.contains(&format!("why: {}\n", causes(answer)[0])), "{status}");
    }

    fn a_loop_out_of_time(stage) {
        stage.config("loop { max_wall_time = \"1s\" }\n");
        stage.drive_to_its_end("sleep 1.5", &[]);
    }
    says "failed" "LOOP_END" [
        "the loop gave up: max_wall_time was reached", "exit code 0 and did not say DONE",
    ]

    fn a_loop_that_pauses(stage) {
        stage.drive("exit 3", &[]);
    }
    says "backing_off" "LOOP_BACKOFF" ["the loop pauses", "exit code 3"]

    fn an_open_breaker(stage) {
        stage.config("breaker { failures = 1 }\n");
        stage.drive("exit 3", &[]);
    }
    says "backing_off" "LOOP_BREAKER" [
        "the breaker opened (opening 1) after quick failures in a row", "exit code 3",
    ]

    fn a_breaker_that_opened_once_too_often(stage) {
        stage.config("breaker {\n  failures = 1\n  cooldown = \"10ms\"\n  trips = 2\n}\n");
        stage.drive_to_its_end("exit 3", &[]);
    }
    says "failed" "LOOP_END" [
        "the loop gave up: its breaker opened once too often", "the breaker opened 1 time", "exit code 3",
    ]

    fn a_done_that_waits_for_children(stage) {
        stage.drive(&format!("run-agent job --agent shell --detach --prompt '{AT_WORK}'; run-agent done"), &[]);
    }
    says "waiting" "LOOP_WAITING" ["the loop waits for 1 active child run", "is at work", "said DONE"]
    and(answer) {
        let who = causes(answer)[2].split("; ").next().unwrap();
        assert_eq!(who, format!("run {} said DONE", stage.root_run()));
    }

    fn a_done_whose_children_outlived_its_patience(stage) {
        stage.config("loop { child_wait_timeout = \"100ms\" }\n");
        let prompt = format!("run-agent job --agent shell --detach --prompt '{AT_WORK}'; run-agent done");
        stage.drive_to_its_end(&prompt, &[]);
    }
    says "running" "LOOP_END" [
        "DONE is set, but 1 child run has not ended within child_wait_timeout", "is at work", "said DONE",
    ]

    fn a_restart_that_waits_for_children(stage) {
        stage.drive(&format!("run-agent job --agent shell --detach --prompt '{AT_WORK}'"), &[]);
    }
    says "waiting" "LOOP_WAITING" [
        "before the root is started again the loop waits for", "is at work", "did not say DONE",
    ]

    fn a_done_by_hand(stage) {
        stage.drive_to_its_end(r#"echo > "$JRUN_TASK_FOLDER/DONE""#, &[]);
    }
    says "completed" "LOOP_END" [
        "the loop completed", "a DONE file was found that was not made by `run-agent done`",
    ]

    fn a_done_that_an_agent_said(stage) {
        stage.drive_to_its_end("run-agent done", &[]);
    }
    says "completed" "LOOP_END" ["the loop completed", "said DONE"]
    and(answer) {
        assert!(causes(answer)[1].contains(&format!("run {} said DONE", stage.root_run())), "{answer:#}");
    }

    fn a_done_that_a_person_said(stage) {
        stage.drive(AT_WORK, &[]);
        let agent = stage.pid();
        let _ = stage.root.ok(&["done", "--task", stage.task.task.as_str()]);
        kill(agent, "TERM");
        stage.driver_ends();
    }
    says "completed" "LOOP_END" ["the loop completed", "said DONE"]
    and(answer) {
        assert!(causes(answer)[1].starts_with("user "), "{answer:#}");
    }

    fn a_done_that_is_a_folder(stage) {
        stage.drive_to_its_end(r#"mkdir "$JRUN_TASK_FOLDER/DONE""#, &[]);
    }
    says "failed" "LOOP_END" ["the loop gave up: DONE is a folder"]
    and(answer) {
        assert_eq!(answer["changes"][0]["text"], "remove it from the task's folder first");
    }

    fn a_rejected_done_that_used_up_the_restarts(stage) {
        let verify = ["--max-restarts", "0", "--verify", "echo 2 tests failed; exit 9"];
        stage.drive_to_its_end("run-agent done", &verify);
    }
    says "failed" "LOOP_END" [
        "the loop gave up: max_restarts was reached",
        "DONE was rejected: `echo 2 tests failed; exit 9` ended with 9: 2 tests failed",
        "completed: exit code 0",
    ]

    fn a_done_that_was_rejected_once_too_often(stage) {
        stage.config("loop { verify_attempts = 1 }\n");
        stage.drive_to_its_end("run-agent done", &["--verify", "echo 2 tests failed; exit 9"]);
    }
    says "failed" "LOOP_END" [
        "the loop gave up: DONE was rejected once too often", "`echo 2 tests failed; exit 9` ended with 9",
    ]

    fn a_verify_command_at_work(stage) {
        stage.drive("run-agent done", &["--verify", AT_WORK]);
        stage.pid();
    }
    says "running" "VERIFY_START" ["a verify command is at work", "said DONE"]

    fn a_loop_that_waits_for_a_failed_task(stage) {
        let first = name("first");
        let args = shell_args("task", &first, "exit 1", &["--max-restarts", "0"]);
        assert_eq!(stage.root.run(&args).code, 3);
        stage.drive("true", &["--depends-on", first.task.as_str()]);
    }
    says "blocked" "LOOP_BLOCKED" ["1 task that it depends on", "first is failed (exhausted)"]
    and(answer) {
        assert_eq!(commands(answer)[0], format!("run-agent why --task {}", name("first").task));
        let inbox = stage.root.json(&["inbox", "--json"]);
        let kinds: Vec<_> = inbox["items"].as_array().unwrap().iter().map(|item| &item["kind"]).collect();
        assert_eq!(kinds, ["blocked", "gave_up"]);
    }

    fn a_failed_task_that_ends_the_loop_that_depends_on_it(stage) {
        stage.config("loop { on_dependency_failure = \"fail\" }\n");
        let first = name("first");
        let args = shell_args("task", &first, "exit 1", &["--max-restarts", "0"]);
        assert_eq!(stage.root.run(&args).code, 3);
        stage.drive_to_its_end("true", &["--depends-on", first.task.as_str()]);
    }
    says "failed" "LOOP_END" [
        "the loop gave up: a task that it depends on cannot be waited for", "first is failed (exhausted)",
    ]

    fn a_loop_that_a_question_holds(stage) {
        // The first root run asks; the next one finds the answer in its prompt.
        let prompt = r#"if grep -q 'forty[-]two' "$JRUN_RUN_FOLDER/prompt.md"; then run-agent done; else run-agent bus post --type QUESTION --blocking --body 'how many?'; fi"#;
        stage.drive(prompt, &[]);
    }
    says "waiting" "LOOP_WAITING" ["the loop waits for the answer to a question", "asks: how many?"]
    and(answer) {
        let question = answer["causes"][1]["msg_id"].as_str().unwrap();
        let inbox = stage.root.json(&["inbox", "--json"]);
        let item = &inbox["items"][0];
        assert_eq!((&item["asker"], &item["msg_id"]), (&"loop".into(), &question.into()));
        let _ = stage.root.ok(&["inbox", "answer", question, "forty-two"]);
        stage.driver_ends();
        stage.until_told("LOOP_END");
    }

    fn a_loop_beyond_the_roots_limit(stage) {
        stage.config("limits { max_tasks = 1 }\n");
        let first = name("first");
        let _ = stage.root.ok(&shell_args("task", &first, AT_WORK, &["--detach"]));
        let told = || (stage.root.count(&first, "RUN_START") > 0).then_some(());
        run_agent_tests::until("the first is driven", told, String::new);
        stage.drive("true", &[]);
    }
    says "waiting" "LOOP_WAITING" ["as many loops are driven as the root allows (limits.max_tasks)"]
}

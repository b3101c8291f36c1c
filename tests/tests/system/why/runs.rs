//! Why runs stand as they do.

use std::process::Stdio;

use run_agent_tests::{alive, kill, name, shell_args, text_of, until};

use super::{AT_WORK, causes, commands, situations};

situations! {
    fn a_job_that_is_at_work(stage) {
        stage.job(AT_WORK, &[]);
    }
    says "running" "RUN_START" ["is at work", "it was started by user"]

    fn a_run_of_another_run(stage) {
        stage.job(&format!("run-agent job --agent shell --prompt '{AT_WORK}'"), &[]);
        stage.pid();
    }
    says "running" "RUN_START" ["is at work", "it was started by run"]

    fn a_run_that_failed(stage) {
        stage.job_ends("echo the disk is full >&2; exit 4", &[]);
    }
    says "failed" "RUN_CRASH" ["failed: exit code 4: the disk is full", "it was started by user"]

    fn a_killed_agent(stage) {
        let run = stage.job(AT_WORK, &[]);
        kill(stage.pid(), "KILL");
        let _ = stage.root.run(&["wait", &run]);
    }
    says "failed" "RUN_CRASH" [
        "was killed by SIGKILL; nobody asked run-agent for it", "it was started by user",
    ]
    and(answer) {
        let run = stage.only_run();
        let run = run.folder().file_name().unwrap().to_str().unwrap();
        assert!(commands(answer)[0].contains(&format!("output {run} --merged")), "{answer:#}");
        let of_run = stage.root.json(&["why", run, "--json"]);
        assert_eq!(of_run["causes"], answer["causes"], "of the run, the same");
    }

    fn a_run_that_was_stopped(stage) {
        let run = stage.job(AT_WORK, &[]);
        stage.pid();
        let _ = stage.root.ok(&["stop", "--run", &run, "--force"]);
    }
    says "stopped" "RUN_STOP" [
        "was stopped", "a stop of the run was asked for by user", "it was started by user",
    ]

    fn a_run_that_is_being_stopped(stage) {
        let run = stage.job(&format!("trap '' TERM; {AT_WORK}"), &[]);
        stage.pid();
        let mut stop = stage.root.command(&["stop", "--run", &run, "--grace", "600s"]);
        let mut stop = stop.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        stage.until_told("RUN_STOPPING");
        stop.kill().unwrap();
        stop.wait().unwrap();
    }
    says "running" "RUN_STOPPING" ["its processes get 600 s after SIGTERM", "is at work"]
    and(answer) {
        assert!(commands(answer)[0].contains("--force"), "{answer:#}");
    }

    fn a_run_past_its_time_limit(stage) {
        stage.job_ends(AT_WORK, &["--timeout", "1s"]);
    }
    says "failed" "RUN_CRASH" ["was ended: time limit of 1s reached", "it was started by user"]

    fn an_idle_run(stage) {
        stage.config("watch {\n  idle_after = \"200ms\"\n}\n");
        stage.job("sleep 1000", &[]);
    }
    says "running" "RUN_IDLE" ["is idle: no sign of life since", "it was started by user"]

    fn a_stuck_run(stage) {
        stage.config("watch {\n  idle_after = \"200ms\"\n  stuck_after = \"600ms\"\n}\nstop {\n  grace = \"0s\"\n}\n");
        stage.job_ends("sleep 1000", &[]);
    }
    says "failed" "RUN_CRASH" [
        "was ended: stuck: no sign of life", "its silence reached watch.stuck_after", "it was started",
    ]
    and(answer) {
        assert_eq!(answer["causes"][1]["type"], "RUN_STUCK", "{answer:#}");
    }

    fn a_parked_run(stage) {
        stage.config("limits { max_agents = 1 }\n");
        let _ = stage.root.ok(&shell_args("job", &name("first"), AT_WORK, &["--detach"]));
        stage.job("true", &[]);
    }
    says "queued" "RUN_PARKED" [
        "waits for other agents to complete: it is the next", "it was started by user",
    ]

    fn a_lost_supervisor_whose_agent_goes_on(stage) {
        stage.job(AT_WORK, &[]);
        stage.pid();
        kill(stage.supervisor(), "KILL");
    }
    says "running" "RUN_START" ["goes on without one"]
    and(answer) {
        assert!(causes(answer)[0].contains(&format!("its agent (pid {})", stage.pid())), "{answer:#}");
    }

    fn a_lost_supervisor_whose_agent_was_killed_too(stage) {
        stage.job(AT_WORK, &[]);
        let agent = stage.pid();
        kill(stage.supervisor(), "KILL");
        kill(agent, "KILL");
    }
    says "failed" "RUN_CRASH" ["its supervisor was lost, and with it", "it was started by user"]
    and(_answer) {
        let run = stage.only_run();
        let run = run.folder().file_name().unwrap().to_str().unwrap();
        assert!(stage.root.ok(&["why", run]).contains("supervisor lost"));
    }

    fn a_run_that_was_taken_over(stage) {
        let run = stage.job(AT_WORK, &[]);
        stage.pid();
        kill(stage.supervisor(), "KILL");
        let waiter = stage.root.command(&["wait", &run]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        stage.drivers.borrow_mut().push(waiter.unwrap());
    }
    says "running" "RUN_START" ["is at work", "it was taken over: supervisor lost", "it was started by user"]

    fn a_starter_that_was_killed(stage) {
        let args = shell_args("job", &stage.task, "true", &[]);
        let mut starter = stage.root.command(&args);
        assert!(!starter.env("RUN_AGENT_FAILPOINT", "starter.intent=kill").output().unwrap().status.success());
    }
    says "failed" "RUN_CRASH" ["failed before its agent was started: starter lost", "it was started by user"]

    fn a_supervisor_that_was_killed_before_the_start(stage) {
        let args = shell_args("job", &stage.task, "true", &[]);
        let mut starter = stage.root.command(&args);
        let _ = starter.env("RUN_AGENT_FAILPOINT", "supervisor.noted=kill").output().unwrap();
    }
    says "failed" "RUN_CRASH" ["before its agent was started: supervisor lost before the start"]

    fn a_run_of_another_machine(stage) {
        let args = shell_args("job", &stage.task, AT_WORK, &["--detach"]);
        let there = stage.root.command(&args).env("RUN_AGENT_FAKE_MACHINE_ID", "another").output().unwrap();
        assert!(there.status.success(), "{there:?}");
        kill(stage.supervisor(), "KILL");
        let gone = || (!alive(stage.supervisor())).then_some(());
        until("its supervisor is gone", gone, String::new);
    }
    says "running" "RUN_START" ["was started on another machine", "it was started by user"]

    fn a_run_that_asks(stage) {
        stage.job("run-agent ask 'which way?' > \"$JRUN_TASK_FOLDER/answer\"", &[]);
    }
    says "running" "RUN_START" ["waits for an answer", "it asks: which way?", "it was started by user"]
    and(answer) {
        let question = answer["causes"][1]["msg_id"].as_str().unwrap();
        assert_eq!(commands(answer)[0], format!("run-agent inbox answer {question} TEXT"));
        assert_eq!(stage.root.json(&["inbox", "--json"])["total"], 1);
        let _ = stage.root.ok(&["inbox", "answer", question, "left"]);
        assert_eq!(text_of(&stage.root.tree().task(&stage.task).folder().join("answer")), "left");
    }

    fn a_failure_far_back_in_a_long_stream(stage) {
        stage.job_ends("exit 4", &[]);
        let lines = "{\"type\":\"PROGRESS\",\"body\":\"still at it\"}\n".repeat(3000);
        let file = stage.root.scratch().join("lines");
        std::fs::write(&file, lines).unwrap();
        let mut post = stage.root.command(&["bus", "post", "--stdin-ndjson", "--task", stage.task.task.as_str()]);
        let input = std::fs::File::open(&file).unwrap();
        assert!(post.stdin(input).stdout(Stdio::null()).status().unwrap().success());
    }
    says "failed" "RUN_CRASH" ["failed: exit code 4", "it was started by user"]
    and(answer) {
        // The checkpoint that the first look left holds the places; this one folds nothing again.
        assert_eq!(stage.why()["causes"], answer["causes"]);
    }
}

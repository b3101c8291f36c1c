//! Why tasks of real agents stand as they do; stand-ins print what those print.

use run_agent_tests::stand_in::{Script, StandIn, claude};

use super::{Stage, causes, commands, situations};

impl Stage {
    /// A loop of the agent claude, which does this at each start.
    fn drive_claude(&self, script: Script) {
        StandIn::of(&self.root, "claude").starts(script).install();
        let args = [
            "task",
            "--project",
            "p",
            "--task",
            self.task.task.as_str(),
            "--agent",
            "claude",
            "--prompt",
            "x",
        ];
        self.spawn_driver(self.root.command(&args));
    }
}

fn refused(limited_until: Option<i64>) -> Script {
    let script = Script::new().prints(&claude::init());
    match limited_until {
        Some(until) => script
            .prints(&claude::limited(until))
            .prints(&claude::refused(429, "rate_limit", "You've hit your limit"))
            .exits(1),
        None => script.prints(&claude::refused(401, "authentication_failed", "API Error: 401")).exits(1),
    }
}

fn used() -> String {
    format!("{}\n{}", claude::init(), claude::result("x", 900, 100, 0.05))
}

fn texts(why: &serde_json::Value) -> Vec<&str> {
    why["changes"].as_array().unwrap().iter().map(|change| change["text"].as_str().unwrap()).collect()
}

situations! {
    fn a_run_whose_calls_fail(stage) {
        let retry = claude::retry(3, 529, "overloaded");
        stage.drive_claude(Script::new().prints(&claude::init()).prints(&retry).waits_for("never"));
    }
    says "running" "RUN_RETRYING" [": 529 overloaded, retry 3 of 10", "the loop was started by user"]
    and(answer) {
        assert!(texts(answer)[0].contains("ends as failed (overloaded)"), "{answer:#}");
    }

    fn an_account_whose_limit_is_reached(stage) {
        stage.drive_claude(refused(Some(4_000_000_000)));
    }
    says "waiting" "LOOP_WAITING" [
        "usage limit of every agent's account", "agent claude is passed over until", "failed (usage_limit)",
    ]
    and(answer) {
        assert!(texts(answer)[0].ends_with("no restart is spent on it"), "{answer:#}");
    }

    fn an_account_that_is_refused(stage) {
        stage.drive_claude(refused(None));
        stage.driver_ends();
    }
    says "failed" "LOOP_END" ["no agent is left", "agent claude is passed over until", "failed (auth)"]
    and(answer) {
        assert!(texts(answer)[0].starts_with("give agent claude a token"), "{answer:#}");
        let inbox = stage.root.json(&["inbox", "--json"]);
        assert!(inbox["items"][0]["text"].as_str().unwrap().contains("(claude: auth)"), "{inbox:#}");
    }

    fn a_budget_that_is_nearly_used_up(stage) {
        stage.config("limits { max_tokens = 1200 }\nloop { restart_delay = \"1h\" }\n");
        stage.drive_claude(Script::new().prints(&used()));
        stage.until_told("LOOP_BUDGET");
    }
    says "queued" "" ["the last root run ended without DONE"]
    and(answer) {
        let last = causes(answer).pop().unwrap().to_owned();
        assert_eq!(last, "80 % of the budget are used (limits.max_tokens: 1000 tokens and 0.050000 USD)");
    }

    fn a_budget_that_is_used_up(stage) {
        stage.config("limits { max_cost_usd = 0.05 }\n");
        stage.drive_claude(Script::new().prints(&used()));
        stage.driver_ends();
    }
    says "failed" "LOOP_END" ["its budget is used up", "all of the budget is used (limits.max_cost_usd: 1000 tokens"]
    and(answer) {
        assert!(commands(answer).iter().any(|command| command.starts_with("run-agent resume")), "{answer:#}");
    }

    fn a_budget_that_stops_what_runs(stage) {
        stage.config("limits { max_tokens = 1000 }\nstop { grace = \"1h\" }\n");
        stage.drive_claude(Script::new().does("trap '' TERM").prints(&used()).waits_for("never"));
    }
    says "running" "LOOP_STOPPING" ["the budget is used up, and what runs is stopped; 1 run has not", "all of the budget"]
    and(answer) {
        assert!(commands(answer)[0].ends_with("--force"), "{answer:#}");
    }
}

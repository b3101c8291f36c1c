//! Budgets over a task's whole tree: a warning, an end, and afresh with `resume`.

use run_agent_core::Message;
use run_agent_core::world::{RunStatus, TaskStatus};
use run_agent_tests::stand_in::{Script, StandIn, claude};
use run_agent_tests::{Done, Root, name, until};

use super::{root_with, step, task, told};

const TOKENS: &str = "limits {\n  max_tokens = 1000\n}";

fn used(input: u64, output: u64) -> Script {
    Script::new().prints(&claude::init()).prints(&claude::result("so far", input, output, 0.25))
}

fn assert_spent(root: &Root, done: &Done) {
    assert_eq!(done.code, 3, "{done:?}");
    let view = root.view(&root.only_task());
    assert_eq!(
        (view.task().status(), view.task().reason().as_str()),
        (TaskStatus::Failed, "budget"),
        "{done:?}"
    );
}

#[test]
fn a_budget_warns_ends_the_loop_and_begins_afresh_with_resume() {
    let root = root_with(&["claude"], TOKENS);
    StandIn::of(&root, "claude")
        .starts(used(800, 50))
        .starts(used(200, 0))
        .starts(used(500, 0).says_done())
        .install();
    assert_spent(&root, &task(&root, &[]));
    let warnings = told(&root, "WARNING");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("80 %") && warnings[0].contains("850 tokens"), "{warnings:?}");
    assert!(warnings[1].contains("used up") && warnings[1].contains("1050 tokens"), "{warnings:?}");
    let again = root.run(&["resume", "--task", root.only_task().task.as_str()]);
    assert_eq!(again.code, 0, "{again:?}");
    let view = root.view(&root.only_task());
    assert_eq!((view.task().runs.len(), view.task().usage.input_tokens), (3, 1500));
}

#[test]
fn a_budget_of_money_counts_what_agents_report() {
    let root = root_with(&["claude"], "limits {\n  max_cost_usd = 0.5\n}");
    StandIn::of(&root, "claude").starts(used(10, 5)).install();
    assert_spent(&root, &task(&root, &[]));
    assert_eq!(root.view(&root.only_task()).task().usage.cost_usd.micros, 500_000);
}

#[test]
fn what_runs_at_the_end_of_a_budget_is_stopped() {
    let root = root_with(&["opencode"], TOKENS);
    StandIn::of(&root, "opencode").starts(Script::new().prints(&step(1100, 10)).waits_for("never")).install();
    assert_spent(&root, &task(&root, &[]));
    let view = root.view(&root.only_task());
    assert_eq!(view.task().runs.values().next().unwrap().status(), RunStatus::Stopped);
}

#[test]
fn what_runs_may_come_to_its_own_end() {
    let root = root_with(&["opencode"], TOKENS);
    let path = root.path().join("config.hcl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("loop {\n", "loop {\n  on_budget = \"finish\"\n")).unwrap();
    let script = Script::new().prints(&step(1100, 10)).waits_for("go").prints(&step(100, 0));
    StandIn::of(&root, "opencode").starts(script).install();
    let task = root.ok(&["task", "--project", "p", "--prompt", "work", "--detach"]);
    let spent = || told(&root, "WARNING").iter().any(|line| line.contains("used up")).then_some(());
    until("the budget is used up", spent, || format!("{:?}", root.messages(&root.only_task())));
    std::fs::write(root.scratch().join("go"), "").unwrap();
    let ended = || root.view(&root.only_task()).task().status() == TaskStatus::Failed;
    until("the loop ends", || ended().then_some(()), || root.run(&["status", "--task", &task]).stdout);
    let view = root.view(&root.only_task());
    let runs: Vec<_> = view.task().runs.values().map(run_agent_core::world::Run::status).collect();
    assert_eq!(
        (runs.as_slice(), view.task().reason().as_str()),
        ([RunStatus::Completed].as_slice(), "budget")
    );
    assert_eq!(view.task().usage.input_tokens, 1200);
}

#[test]
fn children_in_other_tasks_count() {
    let root = root_with(&["claude"], TOKENS);
    let (own, other) = (name("own"), name("other"));
    let child = format!("run-agent job --project p --task {} --agent opencode --prompt child", other.task);
    StandIn::of(&root, "opencode").starts(Script::new().prints(&step(890, 10))).install();
    let used = claude::result("so far", 200, 0, 0.0);
    StandIn::of(&root, "claude").starts(Script::new().does(&child).prints(&used)).install();
    let done = root.run(&["task", "--project", "p", "--task", own.task.as_str(), "--prompt", "work"]);
    assert_eq!(done.code, 3, "{done:?}");
    let (view, of_child) = (root.view(&own), root.view(&other));
    assert_eq!(view.task().reason(), "budget", "{done:?}");
    assert_eq!((view.task().usage.input_tokens, of_child.task().usage.input_tokens), (200, 890));
    let budget = |m: Message| (m.content.kind.as_str() == "LOOP_BUDGET").then_some(m.content.body);
    let told: Vec<String> = root.messages(&own).into_iter().filter_map(budget).collect();
    assert!(told.last().is_some_and(|line| line.contains("1100 tokens")), "{told:?}");
}

#[test]
fn at_the_end_of_a_budget_nothing_is_started_in_other_tasks_either() {
    let root = root_with(&["opencode"], TOKENS);
    let path = root.path().join("config.hcl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("loop {\n", "loop {\n  on_budget = \"finish\"\n")).unwrap();
    let (own, other, third) = (name("own"), name("other"), name("third"));
    let job = |task: &str, agent: &str| {
        format!(
            "run-agent job --project p --task {task} --agent {agent} --prompt child; echo $? > \"$here/{task}\""
        )
    };
    // The child in another task goes on when the budget is used up, and may start nothing there either.
    let (own_id, other_id, third_id) = (own.task.as_str(), other.task.as_str(), third.task.as_str());
    StandIn::of(&root, "claude")
        .starts(Script::new().waits_for("go").does(&job(third_id, "codex")).does(&job(other_id, "codex")))
        .install();
    StandIn::of(&root, "codex").starts(Script::new()).install();
    let detached =
        format!("run-agent job --project p --task {other_id} --agent claude --prompt child --detach");
    let script = Script::new()
        .does(&detached)
        .prints(&step(1100, 10))
        .waits_for("go")
        .does(&job(own_id, "codex"))
        .does(&job(third_id, "codex"));
    StandIn::of(&root, "opencode").starts(script).install();
    let _ = root.ok(&["task", "--project", "p", "--task", own_id, "--prompt", "work", "--detach"]);
    let spent = || (root.count(&own, "LOOP_BUDGET") > 0).then_some(());
    until("the budget is used up", spent, || format!("{:?}", root.messages(&own)));
    root.lets("go");
    let ended = || root.view(&own).task().status() == TaskStatus::Failed;
    until("the loop ends", || ended().then_some(()), || root.run(&["status", "--task", own_id]).stdout);
    for task in [own_id, other_id, third_id] {
        assert_eq!(std::fs::read_to_string(root.scratch().join(task)).unwrap().trim(), "3", "{task}");
    }
    let codex = |task| root.view(task).task().runs.values().any(|run| run.agent == "codex");
    assert!(!codex(&own) && !codex(&other));
}

//! `ask`: a blocking QUESTION, and its answer.

use std::time::Instant;

use run_agent_core::follow::{Follow, From};
use run_agent_core::{Draft, Kind, Message, MsgId, StreamKey};
use run_agent_runner::attach;
use run_agent_runner::wake::{LOOK_AGAIN, Wake};

use crate::args::{AskArgs, Global};
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render;

pub(crate) fn run(global: &Global, args: &AskArgs) -> Outcome {
    let context = Context::open(global)?;
    context.caller()?;
    let key = context.stream()?;
    let (question, mut follow) = match (&args.resume, &args.question) {
        (Some(id), _) => {
            let id = MsgId::parse(id)?;
            let follow = Follow::open(context.tree.store.clone(), &key, From::After(id.clone()))?;
            (id, follow)
        }
        (None, Some(text)) => {
            if text.trim().is_empty() {
                return Err(Failure::usage("the question is empty"));
            }
            let mut draft = Draft::new(Kind::QUESTION, key.project.clone(), key.task.clone(), text.clone());
            draft.run = context.run_for(&key);
            draft.meta.insert("blocking".to_owned(), "true".to_owned());
            let stream = context.tree.store.open(&key)?;
            attach::fit(&context.tree, &key, &mut draft, context.tree.durability)?;
            let entry = stream.append(vec![draft], context.tree.durability)?.remove(0);
            let follow =
                Follow::open(context.tree.store.clone(), &key, From::After(entry.message.id.clone()))?;
            (entry.message.id, follow)
        }
        (None, None) => return Err(Failure::usage("what is the question?")),
    };

    let _blocked = context.blocks();
    let progress = render::progress(format!("waiting for the answer to {question}"));
    let began = Instant::now();
    let wake = Wake::new();
    wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
    loop {
        let left = args.wait.map(|limit| limit.saturating_sub(began.elapsed()));
        let page = follow.wait(left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN))?;
        let nothing = page.is_empty();
        let answer = page.entries.into_iter().map(|entry| entry.message).find(|m| answers(m, &question));
        if let Some(mut answer) = answer {
            // The asker needs the whole of a long answer, not its head.
            let payload = attach::join(&context.tree, &key, &mut answer);
            if let Some(why) = payload.as_ref().and_then(|payload| payload.left_out.as_ref()) {
                render::say(&format!("warning: {why}"));
            }
            if context.json {
                render::json(&serde_json::json!({ "question_id": question, "answer": answer }))?;
            } else {
                render::out(&format!("{}\n", answer.content.body.trim_end_matches('\n')))?;
            }
            return Ok(Exit::Done);
        }
        let time_is_up = left.is_some_and(|left| left.is_zero()) && nothing;
        if wake.interrupted() || time_is_up {
            drop(progress);
            not_yet(&context, &key, &question)?;
            return Ok(if time_is_up { Exit::TimeLimit } else { Exit::Interrupted });
        }
    }
}

/// Says how to wait on for the same question.
fn not_yet(context: &Context, key: &StreamKey, question: &MsgId) -> Result<(), Failure> {
    if context.json {
        render::json(&serde_json::json!({ "question_id": question, "answer": null }))?;
    } else {
        render::out(&format!("{question}\n"))?;
    }
    // An agent's command finds its bus by itself; a person's may be given from elsewhere.
    let flags = match (context.caller()?, &key.task) {
        (Some(_), _) => String::new(),
        (None, Some(task)) => format!("{} --project {} --task {task}", render::place(), key.project),
        (None, None) => format!("{} --project {}", render::place(), key.project),
    };
    render::say(&format!("no answer yet; wait on with: run-agent ask --resume {question} --wait 90s{flags}"));
    Ok(())
}

fn answers(message: &Message, question: &MsgId) -> bool {
    matches!(message.content.kind.as_str(), "ANSWER" | "USER")
        && message.content.parents.iter().any(|parent| parent.msg_id == *question)
}

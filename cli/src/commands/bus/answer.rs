//! An ANSWER that answers nothing is posted all the same, since its question may stand on another bus; but an agent may
//! wait for it, so it is told.

use run_agent_core::store::ReadError;
use run_agent_core::window::PAGE;
use run_agent_core::world::Question;
use run_agent_core::{Cursor, Message, MsgId, Stream, StreamKey, World, text};
use run_agent_runner::TaskView;
use run_agent_runner::tree::TaskName;

use crate::context::Context;
use crate::error::Failure;
use crate::render;

/// The most of a question's text that is shown.
const SHOWN: usize = 60;

/// Warns of an answer that this stream's questions know nothing of.
pub(super) fn warn_of(context: &Context, key: &StreamKey, stream: &dyn Stream, answer: &Message) {
    let parents = &answer.content.parents;
    for parent in parents {
        if matches!(stream.find(&parent.msg_id), Err(ReadError::UnknownId { .. })) {
            let id = &parent.msg_id;
            render::say(&format!(
                "warning: the parent {id} is no message of {key}: whoever waits there for an answer waits on"
            ));
        }
    }
    if parents.is_empty() {
        // What cannot be read now is no reason to call the post a failure.
        let open = match newest_open(context, key, stream).ok().flatten() {
            Some((id, question)) => {
                let line = render::safe_line(text::head(&question.text, SHOWN));
                format!("the newest open one is {id} ({line})")
            }
            None => "none is open here".to_owned(),
        };
        render::say(&format!("warning: no question is answered by this: name it with --parent ID; {open}"));
    }
}

fn newest_open(
    context: &Context,
    key: &StreamKey,
    stream: &dyn Stream,
) -> Result<Option<(MsgId, Question)>, Failure> {
    let newest = |thread: &run_agent_core::world::Thread| {
        let open = thread.open_questions.iter().max_by_key(|(id, question)| (question.asked, *id));
        open.map(|(id, question)| (id.clone(), question.clone()))
    };
    if let Some(task) = &key.task {
        let name = TaskName { project: key.project.clone(), task: task.clone() };
        return Ok(newest(&TaskView::open(&context.tree, &name)?.task().thread));
    }
    let mut world = World::new();
    let mut from = Cursor::START;
    loop {
        let page = stream.read(from, PAGE)?;
        if page.next == from {
            return Ok(world.project(&key.project).and_then(|project| newest(&project.thread)));
        }
        for entry in &page.entries {
            world.apply(key, entry.at, &entry.message);
        }
        from = page.next;
    }
}

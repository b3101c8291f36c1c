//! What was heard as lines of text, so that a test can say in full what it expects.

use std::fmt::Write;

use super::{Exit, Heard, Listener, Reader, Reset, Told, Used};

/// Gives stdout and stderr to the reader in pieces of `size` bytes, and ends it.
pub(crate) fn told_in_pieces(
    reader: impl Reader + 'static,
    (stdout, stderr): (&[u8], &[u8]),
    exit: Exit,
    size: usize,
) -> (Vec<Heard>, Told) {
    let (mut listener, mut heard) = (Listener::new(Box::new(reader)), Vec::new());
    stdout.chunks(size).for_each(|bytes| listener.stdout(bytes, &mut heard));
    stderr.chunks(size).for_each(|bytes| listener.stderr(bytes, &mut heard));
    let told = listener.end(exit, &mut heard);
    (heard, told)
}

/// What is heard of this stdout and then stderr, and what is told at the end, a line each.
pub(crate) fn lines_of(reader: impl Reader + 'static, stdout: &str, stderr: &str, exit: Exit) -> String {
    let (heard, told) = told_in_pieces(reader, (stdout.as_bytes(), stderr.as_bytes()), exit, 4096);
    written(&heard, &told)
}

pub(crate) fn written(heard: &[Heard], told: &Told) -> String {
    let mut out = String::new();
    for heard in heard {
        let line = match heard {
            Heard::Session(id) => format!("session {id}"),
            Heard::Model(name) => format!("model {name}"),
            Heard::Text { text, whole: true } => format!("text {text:?}"),
            Heard::Text { text, whole: false } => format!("piece {text:?}"),
            Heard::Thinking(text) => format!("thinking {text:?}"),
            Heard::Tool { id, name, argument } => format!("tool {id} {name}: {argument}"),
            Heard::ToolEnd { id, failed } => format!("ended {id} failed {failed:?}"),
            Heard::Usage(used) => format!("usage {}", usage(used)),
            Heard::Retrying(retry) => {
                let wait = retry.wait.map(|wait| format!(" wait {wait:?}")).unwrap_or_default();
                format!(
                    "{}{wait}: {}",
                    super::show::retrying(&super::Retry { wait: None, ..retry.clone() }),
                    retry.message
                )
            }
            Heard::Recovered => "recovered".to_owned(),
            Heard::Notice(text) => format!("notice {text}"),
            Heard::Problem { class, message } => format!("problem {class}: {message}"),
        };
        writeln!(out, "{line}").unwrap();
    }
    let said = |name: &str, text: &Option<String>| text.as_ref().map(|text| format!("= {name} {text:?}\n"));
    out.extend(said("text", &told.text));
    out.extend(said("session", &told.session));
    out.extend(said("model", &told.model));
    out.extend(told.used.as_ref().map(|used| format!("= used {}\n", usage(used))));
    if let Some(failure) = &told.failure {
        let reset = match &failure.reset {
            Some(Reset::At(at)) => format!(", over at {at}"),
            Some(Reset::In(span)) => format!(", over in {span:?}"),
            Some(Reset::Clock { date, time, zone }) => format!(", over at {date:?} {time} {zone:?}"),
            None => String::new(),
        };
        let said = if failure.said { "" } else { " (concluded)" };
        writeln!(out, "= failed {}{reset}: {}{said}", failure.class, failure.message).unwrap();
    }
    out
}

fn usage(used: &Used) -> String {
    let cost = used.cost.map_or_else(|| "?".to_owned(), |cost| cost.to_string());
    let tokens = used.tokens;
    let model = used.model.as_deref().unwrap_or("-");
    format!(
        "{model} in {} ({} cached) out {} ({} reasoning) cost {cost}",
        tokens.input, tokens.cached, tokens.output, tokens.reasoning
    )
}

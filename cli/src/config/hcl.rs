//! HCL to plain values. The places come from hcl-edit, what an expression is worth from hcl-rs; there are no variables
//! and no functions, so that a configuration means the same everywhere.

use hcl::edit::expr::{Expression, ObjectKey};
use hcl::edit::structure::{Block, Body, Structure};
use hcl::eval::{Context, Evaluate};

use super::plain::{Entry, Node, Plain, Span};
use super::problem::Problem;
use super::schema;

/// The top level of a file. What cannot be taken is left out and told.
pub(crate) fn parse(text: &str, problems: &mut Vec<Problem>) -> Vec<Entry> {
    match hcl::edit::parser::parse_body(text) {
        Ok(parsed) => body(&parsed, problems),
        Err(error) => {
            problems.push(syntax(text, error.location().offset(), error.message()));
            Vec::new()
        }
    }
}

/// The value of one expression: the defaults of the schema are written in HCL.
pub(crate) fn literal(text: &str) -> Option<Node> {
    let mut problems = Vec::new();
    expression(&hcl::edit::parser::parse_expr(text).ok()?, &mut problems)
}

/// The parser stops at the first thing that is no HCL. Its words name what may follow, and seldom the slip itself; the
/// commonest ones are named here.
fn syntax(text: &str, at: usize, message: &str) -> Problem {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let (before, rest) = text.split_at_checked(at).unwrap_or((text, ""));
    let name = &rest[..rest.find(|c| !word(c)).unwrap_or(rest.len())];
    let begun = before.rsplit('\n').next().unwrap_or_default();
    let line = format!("{begun}{}", rest.lines().next().unwrap_or_default());
    let what = if message.contains("redefined attribute") {
        format!("the setting `{name}` stands twice in this block")
    } else if line.replace("\\\"", "").matches('"').count() % 2 == 1 {
        "this is not HCL: a closing quote is missing".to_owned()
    } else if begun.contains('{') && begun.contains('=') {
        "this is not HCL: a block on one line takes one setting and no comma; write each on a line of its own"
            .to_owned()
    } else {
        let words = message.split('\n').map(str::trim).filter(|line| !line.is_empty());
        format!("this is not HCL: {}", words.collect::<Vec<_>>().join("; "))
    };
    Problem::new(at..at + name.len().max(1), what)
}

fn span(of: &impl hcl::edit::Span) -> Span {
    of.span().unwrap_or_default()
}

fn body(parsed: &Body, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut agents: Option<Entry> = None;
    for structure in parsed {
        match structure {
            Structure::Attribute(attribute) => {
                if let Some(node) = expression(&attribute.value, problems) {
                    let (name, at) = (attribute.key.as_str().to_owned(), span(&attribute.key));
                    entries.push(Entry { name, at, node });
                }
            }
            Structure::Block(found) => {
                let Some(entry) = block(found, problems) else { continue };
                if found.ident.as_str() != schema::AGENT {
                    entries.push(entry);
                    continue;
                }
                // The blocks of all agents make one map from their names.
                let at = span(&found.ident);
                let agents = agents.get_or_insert_with(|| Entry {
                    name: schema::AGENT.to_owned(),
                    at: at.clone(),
                    node: Node { span: at, plain: Plain::Map(Vec::new()) },
                });
                if let Plain::Map(all) = &mut agents.node.plain {
                    all.push(entry);
                }
            }
        }
    }
    entries.extend(agents);
    entries
}

/// A block under its own name, or an agent's under the agent's.
fn block(found: &Block, problems: &mut Vec<Problem>) -> Option<Entry> {
    let (ident, at) = (found.ident.as_str(), span(&found.ident));
    let inner = Node { span: span(found), plain: Plain::Map(body(&found.body, problems)) };
    match (ident == schema::AGENT, found.labels.as_slice()) {
        (true, [label]) => Some(Entry { name: label.as_str().to_owned(), at: span(label), node: inner }),
        (true, _) => {
            problems.push(Problem::new(at, "an agent's block has one name: agent \"claude\" { … }"));
            None
        }
        (false, []) => Some(Entry { name: ident.to_owned(), at, node: inner }),
        (false, [label, ..]) => {
            problems.push(Problem::new(span(label), format!("the block `{ident}` takes no name")));
            None
        }
    }
}

fn expression(found: &Expression, problems: &mut Vec<Problem>) -> Option<Node> {
    let at = span(found);
    let plain = match found {
        Expression::Array(items) => {
            Plain::List(items.iter().filter_map(|item| expression(item, problems)).collect())
        }
        Expression::Object(object) => {
            let mut entries = Vec::new();
            for (key, value) in object {
                let (name, at) = match key {
                    ObjectKey::Ident(ident) => (Some(ident.as_str().to_owned()), span(ident)),
                    ObjectKey::Expression(key) => (key.as_str().map(str::to_owned), span(key)),
                };
                match (name, expression(value.expr(), problems)) {
                    (Some(name), Some(node)) => entries.push(Entry { name, at, node }),
                    (None, _) => {
                        problems.push(Problem::new(at, "a name is a plain word or a text in quotes"));
                    }
                    (_, None) => {}
                }
            }
            Plain::Map(entries)
        }
        Expression::Variable(word) => {
            // The commonest slip: a word without its quotes.
            let quoted = format!("\"{}\"", word.as_str());
            let what = format!("`{}` is no value; a text stands in quotes", word.as_str());
            problems.push(Problem::new(at, what).suggest(Some(quoted)));
            return None;
        }
        other => match hcl::Expression::from(other.clone()).evaluate(&Context::new()) {
            Ok(value) => plain(value, &at),
            Err(error) => {
                let error = error.to_string();
                let error = error.lines().next().unwrap_or_default();
                let what =
                    format!("this has no value here: {error}; write a plain value, and `${{` as `$${{`");
                problems.push(Problem::new(at, what));
                return None;
            }
        },
    };
    Some(Node { span: at, plain })
}

/// What an expression came to, all of it at the expression's place.
fn plain(value: hcl::Value, at: &Span) -> Plain {
    let node = |value| Node { span: at.clone(), plain: plain(value, at) };
    match value {
        hcl::Value::Null => Plain::Null,
        hcl::Value::Bool(flag) => Plain::Flag(flag),
        hcl::Value::Number(number) => Plain::Number(number.as_f64().unwrap_or(f64::NAN)),
        hcl::Value::String(text) => Plain::Text(text),
        hcl::Value::Array(items) => Plain::List(items.into_iter().map(node).collect()),
        hcl::Value::Object(object) => Plain::Map(
            object
                .into_iter()
                .map(|(name, value)| Entry { name, at: at.clone(), node: node(value) })
                .collect(),
        ),
    }
}

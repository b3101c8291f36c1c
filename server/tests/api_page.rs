//! `docs/api.md` is made of the document that describes all paths. `SNAPSHOTS=overwrite` writes it anew.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value};

const HEAD: &str = "# The API\n\nMade from the OpenAPI document, which a server tells at `/api/openapi.json`; `docs/server.md` says how the server works and \
who may ask. Every refusal is `{\"error\":{\"code\",\"message\",\"details\"}}`, as [`ErrorBody`](#errorbody) says.\n";

/// A type, as people write it.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    let list = |all: &Vec<Value>| {
        let kinds: Vec<String> = all.iter().map(kind).filter(|kind| kind != "null").collect();
        kinds.join(" or ")
    };
    if let Some(all) = ["oneOf", "anyOf", "allOf"].iter().find_map(|part| schema[part].as_array()) {
        return list(all);
    }
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .map(|value| format!("`{}`", value.as_str().unwrap_or("?")))
            .collect::<Vec<_>>()
            .join(", ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            let name = names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("any");
            let name =
                if name == "array" { format!("list of {}", kind(&schema["items"])) } else { name.to_owned() };
            format!("{name}, or null")
        }
        _ => "any".to_owned(),
    }
}

fn one_line(text: &Value) -> String {
    text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn field(page: &mut String, name: &str, place: &str, required: bool, schema: &Value, about: &Value) {
    let must = if required { "yes" } else { "" };
    let _ = writeln!(page, "| `{name}` | {place}{} | {must} | {} |", kind(schema), one_line(about));
}

fn operation(page: &mut String, path: &str, method: &str, operation: &Value) {
    let summary = operation["summary"].as_str().or(operation["description"].as_str()).unwrap_or_default();
    let _ = writeln!(page, "\n### {} {path}\n\n{}", method.to_uppercase(), one_line(&summary.into()));
    if let Some(parameters) = operation["parameters"].as_array() {
        page.push_str("\n| parameter | type | needed | |\n| --- | --- | --- | --- |\n");
        for parameter in parameters {
            let place = if parameter["in"] == "path" { "in the path; " } else { "" };
            let required = parameter["required"] == true;
            field(
                page,
                parameter["name"].as_str().unwrap(),
                place,
                required,
                &parameter["schema"],
                &parameter["description"],
            );
        }
    }
    if let Some((_, content)) =
        operation["requestBody"]["content"].as_object().and_then(|all| all.iter().next())
    {
        let _ = writeln!(page, "\nBody: {}", kind(&content["schema"]));
    }
    // Refusals all look alike.
    let answers = |status: &String| status.starts_with('2');
    for (status, response) in operation["responses"].as_object().unwrap().iter().filter(|(s, _)| answers(s)) {
        let answer = response["content"].as_object().and_then(|all| all.iter().next());
        let answer = answer.map(|(media, content)| match media.as_str() {
            "application/json" => kind(&content["schema"]),
            other => format!("`{other}`"),
        });
        let _ = writeln!(page, "\n{status}: {}", answer.unwrap_or_default());
    }
}

fn shape(page: &mut String, name: &str, schema: &Value) {
    let _ = writeln!(page, "\n### {name}\n");
    if let Some(about) = schema["description"].as_str() {
        let _ = writeln!(page, "{}\n", one_line(&about.into()));
    }
    let parts: Vec<&Value> = match schema["allOf"].as_array() {
        Some(parts) => parts.iter().collect(),
        None => vec![schema],
    };
    for part in parts {
        let Some(fields) = part["properties"].as_object() else {
            let _ = writeln!(page, "{}\n", kind(part));
            continue;
        };
        let required =
            |name: &String| part["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        page.push_str("| field | type | always | |\n| --- | --- | --- | --- |\n");
        for (name, field_of) in fields {
            field(page, name, "", required(name), field_of, &field_of["description"]);
        }
    }
}

fn page(document: &Value) -> String {
    let mut page = HEAD.to_owned();
    let mut by_tag: Map<String, Value> = Map::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let tag = operation["tags"][0].as_str().unwrap().to_owned();
            let list = by_tag.entry(tag).or_insert_with(|| Value::Array(Vec::new()));
            list.as_array_mut().unwrap().push(serde_json::json!([path, method, operation]));
        }
    }
    for (tag, operations) in &by_tag {
        let _ = writeln!(page, "\n## {tag}");
        for one in operations.as_array().unwrap() {
            operation(&mut page, one[0].as_str().unwrap(), one[1].as_str().unwrap(), &one[2]);
        }
    }
    page.push_str("\n## Shapes\n");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        shape(&mut page, name, schema);
    }
    page
}

#[test]
fn the_page_of_the_api_is_what_the_document_says() {
    let document: Value = serde_json::from_str(&run_agent_server::document()).unwrap();
    let made = page(&document);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    if std::env::var("SNAPSHOTS").is_ok_and(|how| how == "overwrite") {
        std::fs::write(&path, &made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == made, "docs/api.md is old: SNAPSHOTS=overwrite cargo nextest run -p run-agent-server");
}

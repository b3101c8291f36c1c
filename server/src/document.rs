//! The document that describes all paths: what the handlers say, and what holds for all of them.

use run_agent_core::world::TaskStatus;
use serde_json::{Map, Value, json};

use crate::routes;

/// The form of fields and parameters, by their names.
const FORMS: &[(&[&str], &str)] = &[
    (&["project", "project_id"], "^[A-Za-z_$][A-Za-z0-9_$.-]*$"),
    (
        &["task", "task_id", "selected_task_id"],
        "^task-2[0-9]{3}((0[13578]|1[02])(0[1-9]|[12][0-9]|3[01])|(0[469]|11)(0[1-9]|[12][0-9]|30)|02(0[1-9]|1[0-9]|2[0-8]))-([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]-[a-z0-9][a-z0-9-]{0,40}$",
    ),
    (
        &["run", "run_id"],
        "^2[0-9]{3}((0[13578]|1[02])(0[1-9]|[12][0-9]|3[01])|(0[469]|11)(0[1-9]|[12][0-9]|30)|02(0[1-9]|1[0-9]|2[0-8]))-([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{4}-[1-9][0-9]{0,6}-[1-9][0-9]{0,6}$",
    ),
    (
        &["Parent", "msg_id", "message_id", "issue_id", "since", "after", "from", "at"],
        r"^[!#-&(-+\--\[\]-_a-~]{1,255}$",
    ),
    (&["type", "thread_message_type"], "^[A-Z][A-Z0-9_]{0,63}$"),
    (&["project_root", "cwd"], r"^/[^\x00-\x1f\x7f-\x9f]{0,2000}$"),
    (&["timeout", "grace"], "^[0-9]{1,4}(ms|s|m|h)$"),
    (&["older_than"], "^[1-9][0-9]{0,3}[mhd]$"),
    (&["prompt"], r"\S"),
];
/// The greatest number that is taken, where no field says less.
const COUNT_MAX: u64 = u64::MAX;
/// The files of a task, and those of a run.
const OF_TASK: [&str; 2] = ["TASK.md", "TASK_STATE.md"];
const OF_RUN: [&str; 4] = ["output.md", "stdout", "stderr", "prompt"];

/// As JSON.
pub fn document() -> String {
    let mut document = serde_json::to_value(routes::all().to_openapi()).unwrap_or_default();
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, methods) in paths.iter_mut() {
            for operation in methods.as_object_mut().into_iter().flat_map(Map::values_mut) {
                describe(path, operation);
            }
        }
    }
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        for (name, schema) in schemas {
            shape(schema);
            form(name, schema);
        }
    }
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

fn describe(path: &str, operation: &mut Value) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        form(&name, &mut parameter["schema"]);
        if path == "/api/v1/search" && name == "q" {
            parameter["schema"]["pattern"] = json!("[A-Za-z0-9]");
        }
        if name == "status" {
            let all = TaskStatus::ALL.map(TaskStatus::as_str).join("|");
            parameter["schema"]["pattern"] = json!(format!("^(({all})(,({all}))*)?$"));
        }
        if name == "name" {
            let of_task = path.ends_with("{task}/file");
            parameter["schema"]["enum"] = if of_task { json!(OF_TASK) } else { json!(OF_RUN) };
        }
    }
    let refused = json!({
        "description": "Refused",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/ErrorBody" } } },
    });
    if let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) {
        responses.insert("4XX".to_owned(), refused.clone());
        responses.insert("5XX".to_owned(), refused);
    }
}

/// Gives the fields of an object their forms, in all that it is made of.
fn shape(schema: &mut Value) {
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        fields.iter_mut().for_each(|(name, field)| form(name, field));
    }
    for part in ["allOf", "oneOf"] {
        schema.get_mut(part).and_then(Value::as_array_mut).into_iter().flatten().for_each(shape);
    }
}

fn form(name: &str, schema: &mut Value) {
    if schema.get("type").is_some_and(is_count) && schema.get("maximum").is_none() {
        schema["maximum"] = json!(COUNT_MAX);
    }
    let name = if name == "depends_on" { "task" } else { name };
    let schema = if schema.get("items").is_some() { &mut schema["items"] } else { schema };
    for part in schema.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
        form(name, part);
    }
    let is_text = match schema.get("type") {
        Some(Value::String(kind)) => kind == "string",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
        _ => false,
    };
    let known = FORMS.iter().find(|(names, _)| names.contains(&name));
    if let Some((_, pattern)) = known.filter(|_| is_text) {
        schema["pattern"] = json!(pattern);
    }
}

fn is_count(kind: &Value) -> bool {
    kind == "integer" || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "integer"))
}

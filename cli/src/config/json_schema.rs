//! The schema as JSON Schema, for editors: it describes the YAML form, and HCL's blocks as objects.

use serde_json::{Map, Value, json};

use super::schema::{self, AGENT, BLOCKS};

pub(crate) fn json_schema() -> Value {
    let mut blocks = Map::new();
    for (block, about) in BLOCKS {
        let mut settings = Map::new();
        for setting in schema::of_block(block) {
            let mut described = setting.kind.json_schema();
            described["description"] = json!(setting.doc);
            described["default"] = setting.default_value().map_or(Value::Null, |value| value.json());
            settings.insert(setting.name.to_owned(), described);
        }
        let object = json!({
            "type": ["object", "null"],
            "description": about,
            "properties": settings,
            "additionalProperties": false,
        });
        let object = if block == AGENT {
            json!({ "type": ["object", "null"], "description": about, "additionalProperties": object })
        } else {
            object
        };
        blocks.insert(block.to_owned(), object);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "run-agent configuration",
        "type": ["object", "null"],
        "properties": blocks,
        "additionalProperties": false,
    })
}

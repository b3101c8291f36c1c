//! The floor of reading: what a YAML crate takes for the same entries. It checks no checksum and knows no damage.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The fields of an entry, as a reader that leaves all to the YAML crate would take them.
#[derive(Debug, Deserialize)]
pub struct Header {
    pub msg_id: String,
    pub ts: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub project_id: String,
    pub task_id: Option<String>,
    pub run_id: Option<String>,
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    pub bytes: usize,
}

/// The entries of a bus: each header by the YAML crate, each body as a copy.
pub fn entries(bus: &str) -> impl Iterator<Item = Result<(Header, String), serde_yaml::Error>> + '_ {
    let mut rest = bus;
    std::iter::from_fn(move || {
        let (header, behind) = rest.strip_prefix("---\n")?.split_once("\n---\n")?;
        match serde_yaml::from_str::<Header>(header) {
            Ok(header) => {
                let body = behind.get(..header.bytes)?.to_owned();
                rest = behind.get(header.bytes + 1..)?;
                Some(Ok((header, body)))
            }
            Err(error) => {
                rest = "";
                Some(Err(error))
            }
        }
    })
}

//! A story as lines: each stream, in order, with what its events carry.

use std::fmt::Write;

use super::sim::Sim;

/// Fields that say nothing in a story.
const DULL: [&str; 6] = ["cause", "v", "machine_id", "boot_id", "starter_start_ticks", "driver_start_ticks"];

pub(super) fn lines(sim: &Sim) -> String {
    let mut text = String::new();
    for (key, entries) in &sim.streams {
        let _ = writeln!(text, "{key}");
        for entry in entries {
            let content = &entry.message.content;
            let run = content.run.as_ref().map_or("", |run| run.as_str());
            let _ =
                write!(text, "  {:<29} {:<18} {run}", entry.message.ts.to_string(), content.kind.as_str());
            let told = |(name, value): &(&String, &String)| {
                !DULL.contains(&name.as_str()) && !value.is_empty() && *value != "0"
            };
            for (name, value) in content.meta.iter().filter(told) {
                let _ = write!(text, " {name}={value}");
            }
            text.push('\n');
        }
    }
    text
}

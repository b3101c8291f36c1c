//! The configuration: no text makes its readers panic, both in HCL and in YAML; each mistake is told with a place in the
//! text; what `config init` adds to a text without a mistake changes no setting, drops no line that a person wrote, and is
//! added once.
#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use run_agent::fuzzing::{self, Read};
use run_agent_fuzz::text;

const NAMES: [&str; 2] = ["c.hcl", "c.yaml"];

/// Blocks with some of their settings, one that takes any value first.
const BLOCKS: [(&str, &[&str]); 7] = [
    ("storage", &["root", "backend", "durability", "rotate_bytes", "sync_every", "sync_messages"]),
    ("agents", &["order", "max_parallel", "weights"]),
    ("loop", &["max_restarts", "restart_delay", "after_children", "max_wall_time"]),
    ("stop", &["grace"]),
    ("limits", &["max_depth"]),
    ("agent \"mine\"", &["type", "argv", "args", "env", "token", "token_file", "timeout", "model"]),
    ("agent", &["type"]),
];

const VALUES: [&str; 22] = [
    "1",
    "-1",
    "1.5",
    "1e99",
    "true",
    "null",
    "\"\"",
    "\"5m\"",
    "\"64KiB\"",
    "\"command\"",
    "\"shell\"",
    "\"none\"",
    "[]",
    "[\"a\", \"b\"]",
    "[1, null]",
    "{}",
    "{ a = \"b\" }",
    "{ a: b }",
    "\"${a}\"",
    "<<E\nx\nE",
    "\"é\u{2028}\"",
    "a.b",
];

const SCRAPS: [&str; 16] = [
    "\n",
    "# comment\n",
    "// ",
    "/*",
    "*/",
    "{",
    "}",
    "}\n",
    "=",
    ": ",
    "- ",
    "  ",
    "\t",
    "&a ",
    "*a",
    "---\n",
];

fuzz_target!(|bytes: &[u8]| {
    for name in NAMES {
        check(name, &String::from_utf8_lossy(bytes));
    }
    let mut u = Unstructured::new(bytes);
    let _ = written(&mut u).map(|(name, text)| check(name, &text));
});

/// What a person may write, with slips.
fn written(u: &mut Unstructured<'_>) -> Result<(&'static str, String)> {
    let yaml = u.arbitrary()?;
    let mut out = String::new();
    for _ in 0..u.int_in_range(1..=5)? {
        let (block, settings) = *u.choose(&BLOCKS)?;
        out.push_str(&if yaml {
            format!("{}:\n", block.replace(" \"mine\"", ":\n  mine"))
        } else {
            format!("{block} {{\n")
        });
        for _ in 0..u.int_in_range(0..=4)? {
            let indent = if yaml && block.starts_with("agent \"") { "    " } else { "  " };
            let sign = if yaml { ": " } else { " = " };
            out.push_str(&format!("{indent}{}{sign}{}", u.choose(settings)?, u.choose(&VALUES)?));
            out.push_str(if u.ratio(1, 12)? { u.choose(&SCRAPS)? } else { "\n" });
        }
        out.push_str(if yaml { "" } else { "}\n" });
        match u.int_in_range(0..=9)? {
            0 => out.push_str(&text(u)?),
            1..=3 => out.push_str(u.choose(&SCRAPS)?),
            _ => {}
        }
    }
    Ok((NAMES[usize::from(yaml)], out))
}

fn check(name: &str, text: &str) {
    let read = fuzzing::config(name, text);
    for (at, line, shown) in &read.problems {
        assert!(*at <= text.len(), "{at} is a place in the text");
        assert!(
            !line.contains('\n') && shown.starts_with(line.as_str()),
            "a mistake has one line of its own: {shown}"
        );
    }
    let Some(refreshed) = &read.refreshed else { return };
    let again = fuzzing::config(name, refreshed);
    assert_eq!(
        Read { refreshed: None, ..again.clone() },
        Read { refreshed: None, ..read.clone() },
        "{refreshed}"
    );
    assert_eq!(again.refreshed.as_ref(), Some(refreshed), "it is added once");
    // A last line that ends with half of a line's end gets the other half.
    let ends = |line: &str| line.trim_end_matches('\r').to_owned();
    let mut lines = refreshed.lines().map(ends);
    for line in text.lines().map(ends).filter(|line| !line.trim_start().starts_with('#')) {
        assert!(lines.any(|kept| kept == line), "`{line}` of {text:?} is kept, in its place: {refreshed:?}");
    }
}

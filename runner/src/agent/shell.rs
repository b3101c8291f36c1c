//! The built-in `shell` agent: runs the prompt's fenced `sh` and `bash` blocks, or the whole prompt if it has none.
//! It needs no account and no network, and is what the demo, tests and plain automation use.

use run_agent_core::layout::RunPaths;

use super::{AgentError, Backend, Call, Work, locate};

#[derive(Debug)]
pub struct Shell {
    pub name: String,
}

impl Backend for Shell {
    fn name(&self) -> &str {
        &self.name
    }

    fn call(&self, run: &RunPaths, work: Work<'_>) -> Result<Call, AgentError> {
        let Script { shell, text } = script(work.prompt);
        let shell = locate(&self.name, shell)?;
        // -e: a block that fails ends the run with its code, as a step of any build does.
        let argv = vec![shell, "-e".to_owned(), run.script().display().to_string()];
        Ok(Call { argv, script: Some(text), ..Call::default() })
    }
}

struct Script {
    shell: &'static str,
    text: String,
}

/// All blocks as one script, so that variables live on from block to block.
fn script(prompt: &str) -> Script {
    let mut text = String::new();
    let mut shell = "sh";
    // Inside a block: its closing fence, and whether it is one of ours.
    let mut open: Option<(String, bool)> = None;
    let mut found = false;
    for line in prompt.lines() {
        match &open {
            Some((fence, ours)) => {
                if line.trim() == fence {
                    open = None;
                } else if *ours {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            None => {
                let trimmed = line.trim_start();
                let ticks = trimmed.len() - trimmed.trim_start_matches('`').len();
                if ticks < 3 {
                    continue;
                }
                let language = trimmed[ticks..].trim();
                let ours = matches!(language, "sh" | "bash" | "shell");
                found |= ours;
                if language == "bash" {
                    shell = "bash";
                }
                open = Some(("`".repeat(ticks), ours));
            }
        }
    }
    if found { Script { shell, text } } else { Script { shell: "sh", text: format!("{prompt}\n") } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fenced_blocks_are_run_in_order_and_others_are_not() {
        let prompt =
            "Do this:\n```sh\na=1\n```\nand not\n```python\nb\n```\nthen\n````bash\necho $a\n```\n````\n";
        let Script { shell, text } = script(prompt);
        assert_eq!((shell, text.as_str()), ("bash", "a=1\necho $a\n```\n"));
    }

    #[test]
    fn a_prompt_without_blocks_is_the_script() {
        let Script { shell, text } = script("echo hello\necho `date`");
        assert_eq!((shell, text.as_str()), ("sh", "echo hello\necho `date`\n"));
    }
}

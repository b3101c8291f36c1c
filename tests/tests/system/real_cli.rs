//! Real coding agents, offline: the CLIs from npm against a scripted endpoint. They really run the shell commands that it
//! asks for, in sessions of their own, and do with their processes, their output and their ends what no script of ours does.
//!
//! Part of `cargo xtask deep` alone, since it installs several hundred MB once, into the target folder. Where a CLI or the
//! endpoint is not to be had, the tests say `skipped` and why.

mod ends;
mod rig;
mod sessions;
mod shell_tool;
mod trouble;
mod work;

/// Each fact is a test of each CLI, so that none can be forgotten.
macro_rules! of_each_cli {
    ($($fact:ident),* $(,)?) => { $(
        mod $fact {
            #[test]
            fn claude() {
                super::$fact(&crate::real_cli::rig::CLAUDE);
            }
            #[test]
            fn codex() {
                super::$fact(&crate::real_cli::rig::CODEX);
            }
            #[test]
            fn gemini() {
                super::$fact(&crate::real_cli::rig::GEMINI);
            }
            #[test]
            fn opencode() {
                super::$fact(&crate::real_cli::rig::OPENCODE);
            }
        }
    )* };
}
use of_each_cli;

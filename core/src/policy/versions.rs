//! Versions of agents' programs: which one a program prints, and whether it is too old.

/// The version in what a program prints when it is asked for it: the first or second word of a line.
#[must_use]
pub fn printed(text: &str) -> Option<&str> {
    let of_line = |line| str::split_whitespace(line).take(2).find_map(as_version);
    text.lines().find_map(of_line)
}

/// The longest version that is taken for one, in bytes.
const VERSION_MAX: usize = 64;

/// `v1.2.3-beta.4+5` without the `v`: at least two numbers.
fn as_version(word: &str) -> Option<&str> {
    let word = word.strip_prefix('v').unwrap_or(word);
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    let fits = word.len() <= VERSION_MAX && word.chars().all(known);
    (fits && numbers(word)?.len() > 1).then_some(word)
}

/// The numbers before what is appended to them, if they are such.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let end = version.find(['-', '+']).unwrap_or(version.len());
    version[..end].split('.').map(|number| number.parse().ok()).collect()
}

/// True when both can be compared, and `version` comes before `min`. Missing numbers are zeros, and what leads up to a
/// version (`1.0.0-beta`) comes before it.
#[must_use]
pub fn is_older(version: &str, min: &str) -> bool {
    let (Some(mut ours), Some(mut least)) = (numbers(version), numbers(min)) else { return false };
    let longest = ours.len().max(least.len());
    ours.resize(longest, 0);
    least.resize(longest, 0);
    let leads_up = |version: &str| version.find(['-', '+']).is_some_and(|at| version[at..].starts_with('-'));
    ours < least || (ours == least && leads_up(version) && !leads_up(min))
}

/// True when other versions can be compared with this one.
#[must_use]
pub fn can_be_compared(version: &str) -> bool {
    numbers(version).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_a_word_at_the_beginning_of_a_line() {
        for (text, version) in [
            ("2.1.3 (Claude Code)\n", Some("2.1.3")),
            ("codex-cli 0.63.0", Some("0.63.0")),
            ("0.19.1\n", Some("0.19.1")),
            ("v1.0.2-beta.1+7\r\n", Some("1.0.2-beta.1+7")),
            ("\n\nwarning: something is odd\nagent 1.2\n", Some("1.2")),
            ("this is version 1.2.3 of it", None),
            ("1\n", None),
            ("1.2.x\n", None),
            ("error: 12 files", None),
            ("", None),
        ] {
            assert_eq!(printed(text), version, "{text:?}");
        }
        assert_eq!(printed(&format!("1.{}", "2".repeat(VERSION_MAX))), None);
    }

    #[test]
    fn versions_are_compared_number_by_number() {
        for (version, min, older) in [
            ("0.9.9", "1.0.0", true),
            ("1.0", "1.0.0", false),
            ("1.0.0", "1", false),
            ("1.9.0", "1.10", true),
            ("2.0.0", "1.10", false),
            ("1.0.0-beta", "1.0.0", true),
            ("1.0.0+5-x", "1.0.0", false),
            ("1.0.1-beta", "1.0.0", false),
            ("1.0.0-beta", "1.0.0-beta", false),
            ("0.1", "v0.2", true),
            ("99999999999999999999.0", "1.0", false),
            ("0.1", "", false),
            ("0.1", "newest", false),
        ] {
            assert_eq!(is_older(version, min), older, "{version} and {min}");
        }
    }
}

//! What must not be told of a run: its agent's token, and what else in its variables is one by their names. A provider may
//! say a token again, an agent may print it, and an argument may hold one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Stands where a secret stood.
const HIDDEN: &str = "…";
/// A token that the configuration names is hidden from this length on: a shorter one is a word like any other.
const GIVEN_MIN: usize = 6;
/// What only its variable's name tells to be one has to look like it, too.
const NAMED_MIN: usize = 12;
/// How the name of a variable, a flag or a field ends that holds one.
const NAMES: &[&str] = &["key", "apikey", "token", "secret", "password", "passwd"];
/// How tokens of well-known providers begin.
const BEGINNINGS: &[&str] = &["sk-", "xai-", "pplx-", "ghp_", "github_pat_", "glpat-", "AIza", "AKIA"];

/// The secrets that are known of one run.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secrets {
    /// The longest first.
    all: Vec<String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.all.len())
    }
}

impl Secrets {
    /// Those of an agent that is started with these variables over this process's own, and with these tokens.
    pub(crate) fn of(given: &[String], env: &BTreeMap<String, String>) -> Self {
        let given = given.iter().filter(|token| token.len() >= GIVEN_MIN).cloned();
        let own = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let variables = env.clone().into_iter().chain(own);
        let named =
            variables.filter(|(name, value)| is_name(name) && is_token(value)).map(|(_, value)| value);
        let mut all: Vec<String> = given.chain(named).collect();
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Self { all }
    }

    /// What this process knows of a run that another one started.
    pub(crate) fn around() -> Self {
        Self::of(&[], &BTreeMap::new())
    }

    /// The text without them.
    pub(crate) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.all {
            if text.contains(secret) {
                text = Cow::Owned(text.replace(secret, HIDDEN));
            }
        }
        text
    }

    /// A command line without them, and without what its own words tell to be one.
    pub(crate) fn command_line(&self, argv: &[String]) -> String {
        let mut after_name = false;
        let words = argv.iter().map(|word| {
            let hidden = std::mem::take(&mut after_name) && !word.starts_with('-') && word.len() >= GIVEN_MIN;
            after_name = word.starts_with('-') && !word.contains('=') && is_name(word);
            if hidden { Cow::Borrowed(HIDDEN) } else { shown(word) }
        });
        let line = words.collect::<Vec<_>>().join(" ");
        self.hide(&line).into_owned()
    }

    /// Takes them out of what is written, in pieces of any size.
    pub(crate) fn writer<W: Write>(&self, to: W) -> Writer<W> {
        Writer { veil: Veil::new(self.clone()), to }
    }
}

/// Takes what looks like a secret out of a value that is to be written down: by the names of its fields, and by the looks of
/// words in its text.
pub fn redact(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = without_tokens(text),
        serde_json::Value::Array(all) => all.iter_mut().for_each(redact),
        serde_json::Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value {
                    serde_json::Value::String(text) if is_name(name) => HIDDEN.clone_into(text),
                    other => redact(other),
                }
            }
        }
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

fn without_tokens(text: &str) -> String {
    let mut after_bearer = false;
    let words = text.split_inclusive(char::is_whitespace).map(|piece| {
        let word = piece.trim_end();
        let hidden = std::mem::replace(&mut after_bearer, word.eq_ignore_ascii_case("bearer"));
        let shown = if hidden && word.len() >= GIVEN_MIN { Cow::Borrowed(HIDDEN) } else { shown(word) };
        format!("{shown}{}", &piece[word.len()..])
    });
    words.collect()
}

/// `api_key`, `ANTHROPIC_API_KEY`, `--token`; not `max_tokens`.
fn is_name(name: &str) -> bool {
    let last = name.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    NAMES.iter().any(|own| own.eq_ignore_ascii_case(last))
}

/// One long word with a digit in it, and no path.
fn is_token(value: &str) -> bool {
    value.len() >= NAMED_MIN
        && !value.starts_with('/')
        && value.bytes().all(|byte| byte.is_ascii_graphic())
        && value.bytes().any(|byte| byte.is_ascii_digit())
}

/// One word of a command line.
fn shown(word: &str) -> Cow<'_, str> {
    if let Some((name, value)) = word.split_once('=')
        && is_name(name)
        && value.trim_matches(['"', '\'']).len() >= GIVEN_MIN
    {
        return Cow::Owned(format!("{name}={HIDDEN}"));
    }
    if let Some(at) = word.to_ascii_lowercase().find("bearer ") {
        return Cow::Owned(format!("{}{HIDDEN}", &word[..at + "bearer ".len()]));
    }
    let value = word.rsplit(['=', ':', '"', '\'', ' ']).next().unwrap_or_default();
    if value.len() >= NAMED_MIN && BEGINNINGS.iter().any(|begins| value.starts_with(begins)) {
        return Cow::Owned(word.replace(value, HIDDEN));
    }
    match word.split_once("://") {
        Some((scheme, address)) => Cow::Owned(format!("{scheme}://{}", without_secrets(address))),
        None => Cow::Borrowed(word),
    }
}

/// `name:password@host/path?query`, where only host and path are told.
fn without_secrets(address: &str) -> String {
    let (place, query) = address.split_once('?').map_or((address, false), |(place, _)| (place, true));
    let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let (user, host) = host.rsplit_once('@').map_or(("", host), |(_, host)| ("…@", host));
    format!("{user}{host}{path}{}", if query { "?…" } else { "" })
}

/// Takes secrets out of bytes that come in pieces: what may be the beginning of one is held back until it is known.
#[derive(Debug, Default)]
pub(crate) struct Veil {
    secrets: Secrets,
    held: Vec<u8>,
}

impl Veil {
    pub(crate) fn new(secrets: Secrets) -> Self {
        Self { secrets, held: Vec::new() }
    }

    /// Gives what of these bytes may be told.
    pub(crate) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        if self.held.is_empty() {
            let held = self.pass(bytes, false, &mut each);
            self.held.extend_from_slice(&bytes[held..]);
        } else {
            let mut all = std::mem::take(&mut self.held);
            all.extend_from_slice(bytes);
            let held = self.pass(&all, false, &mut each);
            self.held.extend_from_slice(&all[held..]);
        }
    }

    /// Nothing more comes: what was held back is told.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        let held = std::mem::take(&mut self.held);
        self.pass(&held, true, &mut each);
    }

    /// Gives the bytes up to the place that it returns, from where on a secret may begin.
    fn pass(&self, bytes: &[u8], last: bool, each: &mut impl FnMut(&[u8])) -> usize {
        let (mut told, mut at) = (0, 0);
        let begins = |byte: u8| self.secrets.all.iter().any(|secret| secret.as_bytes()[0] == byte);
        while at < bytes.len() {
            if !begins(bytes[at]) {
                at += 1;
                continue;
            }
            let rest = &bytes[at..];
            let secrets = || self.secrets.all.iter().map(String::as_bytes);
            if !last && secrets().any(|secret| secret.len() > rest.len() && secret.starts_with(rest)) {
                break;
            }
            match secrets().find(|secret| rest.starts_with(secret)) {
                Some(secret) => {
                    each(&bytes[told..at]);
                    each(HIDDEN.as_bytes());
                    at += secret.len();
                    told = at;
                }
                None => at += 1,
            }
        }
        if told < at {
            each(&bytes[told..at]);
        }
        at
    }
}

/// Writes what [`Veil`] lets through.
#[derive(Debug)]
pub(crate) struct Writer<W: Write> {
    veil: Veil,
    to: W,
}

impl<W: Write> Writer<W> {
    /// Where it goes.
    pub(crate) fn to(&self) -> &W {
        &self.to
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (mut told, to) = (Ok(()), &mut self.to);
        // In one piece, so that a line stays one write.
        let mut piece = Vec::with_capacity(bytes.len());
        self.veil.push(bytes, |part| piece.extend_from_slice(part));
        if !piece.is_empty() {
            told = to.write_all(&piece);
        }
        told.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<W: Write> Drop for Writer<W> {
    fn drop(&mut self) {
        let mut piece = Vec::new();
        self.veil.finish(|part| piece.extend_from_slice(part));
        // What is held back is less than a token, at the end of an answer that ended in the middle of it.
        let _ = self.to.write_all(&piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets(all: &[&str]) -> Secrets {
        let given: Vec<String> = all.iter().map(|one| (*one).to_owned()).collect();
        let known = Secrets::of(&given, &BTreeMap::new());
        // Without what the variables of the test's own process say.
        Secrets { all: known.all.into_iter().filter(|one| given.contains(one)).collect() }
    }

    fn written(secrets: &Secrets, pieces: &[&[u8]]) -> String {
        let mut to = Vec::new();
        let mut writer = secrets.writer(&mut to);
        for piece in pieces {
            writer.write_all(piece).unwrap();
        }
        drop(writer);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_token_that_is_split_between_pieces_is_hidden_and_a_beginning_alone_is_not() {
        let secrets = secrets(&["SECRETTOKEN123"]);
        let pieces: [&[u8]; 4] = [b"a SECRET", b"TOKEN", b"123 b SECRETTOKEN12", b"4 SECRETTOK"];
        assert_eq!(written(&secrets, &pieces), "a … b SECRETTOKEN124 SECRETTOK");
    }

    #[test]
    fn variables_are_known_by_their_names_and_by_what_they_hold() {
        let env = [
            ("MY_API_KEY", "abcdefgh1234"),
            ("GITHUB_TOKEN", "ghp_0123456789"),
            ("SORT_KEY", "alphabetically"),
            ("KEY_FILE_KEY", "/home/me/keys/1234"),
            ("MAX_TOKENS", "1234567890123"),
            ("PATH", "/usr/bin:/bin1234"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let all = Secrets::of(&["word".to_owned(), "secret".to_owned()], &env).all;
        for known in ["abcdefgh1234", "ghp_0123456789", "secret"] {
            assert!(all.iter().any(|one| one == known), "{known}");
        }
        for word in ["alphabetically", "/home/me/keys/1234", "1234567890123", "/usr/bin:/bin1234", "word"] {
            assert!(!all.iter().any(|one| one == word), "{word}");
        }
    }

    #[test]
    fn a_command_line_shows_no_argument_that_looks_like_a_secret() {
        let secrets = secrets(&["the-token-itself"]);
        for (argv, shown) in [
            (
                &["claude", "--max-tokens", "100000", "--model", "opus"][..],
                "claude --max-tokens 100000 --model opus",
            ),
            (&["x", "--api-key", "0123456789", "-v"], "x --api-key … -v"),
            (&["x", "--api-key=0123456789", "-k"], "x --api-key=… -k"),
            (&["codex", "-c", "a.b.api_key=\"0123456789\""], "codex -c a.b.api_key=…"),
            (&["x", "-H", "Authorization: Bearer abc"], "x -H Authorization: Bearer …"),
            (&["x", "sk-ant-0123456789", "the-token-itself"], "x … …"),
            (&["x", "--url", "https://me:pass@host/v1@2"], "x --url https://…@host/v1@2"),
            (
                &["x", "--url", "https://host/v1@2", "a=b", "--key", "K"],
                "x --url https://host/v1@2 a=b --key K",
            ),
        ] {
            let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(secrets.command_line(&argv), shown);
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_are_told_as_the_whole_is(text in "[abc]{0,60}", cuts in prop::collection::vec(0..60usize, 0..6)) {
            let secrets = secrets(&["abcabc", "aabbcca", "abcabcab"]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &text.as_bytes()[ends[0]..ends[1]]).collect();
            let whole = written(&secrets, &[text.as_bytes()]);
            prop_assert_eq!(&written(&secrets, &pieces), &whole);
            for secret in &secrets.all {
                prop_assert!(!whole.contains(secret));
            }
        }
    }
}

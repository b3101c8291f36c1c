//! What Perplexity streams: chunks of a chat completion, each with the usage and the sources so far, of which the last
//! counts. The sources become a section of their own behind the text.

use crate::agent::stream::{Account, Answer, Chunks, Heard, Json, RestReader, one_line};

/// How many sources are named.
const SOURCES_MAX: usize = 100;
const TITLE_MAX: usize = 200;
const URL_MAX: usize = 2000;

/// Reads one answer.
pub(crate) type PerplexityReader = RestReader<Perplexity>;

#[derive(Debug, Default)]
pub(crate) struct Perplexity {
    chunks: Chunks,
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    url: String,
    title: Option<String>,
}

impl Answer for Perplexity {
    fn event(&mut self, event: &Json, account: &mut Account, heard: &mut Vec<Heard>) {
        self.chunks.chunk(event, account, heard);
        self.take_sources(event);
    }

    fn finish(&mut self, account: &mut Account, heard: &mut Vec<Heard>) {
        if !self.sources.is_empty() {
            account.piece(&references(&self.sources), heard);
        }
    }
}

impl Perplexity {
    /// The text names them by their places in `citations`; `search_results` has their titles.
    fn take_sources(&mut self, event: &Json) {
        let results = event.at(&["search_results"]).list();
        let urls: Vec<&str> = match event.at(&["citations"]).list() {
            [] => results.iter().filter_map(|result| result.at(&["url"]).words()).collect(),
            citations => citations.iter().filter_map(Json::words).collect(),
        };
        if urls.is_empty() {
            return;
        }
        let known = std::mem::take(&mut self.sources);
        let title_of = |url: &str| {
            let result = results.iter().find(|result| result.at(&["url"]).text() == Some(url));
            let new = result
                .and_then(|result| result.at(&["title"]).words())
                .map(|title| one_line(title, TITLE_MAX));
            new.or_else(|| known.iter().find(|source| source.url == url)?.title.clone())
        };
        self.sources = urls
            .into_iter()
            .take(SOURCES_MAX)
            .map(|url| Source { title: title_of(url), url: one_line(url, URL_MAX) })
            .collect();
    }
}

fn references(sources: &[Source]) -> String {
    let mut out = "\n\n## References\n\n".to_owned();
    for (n, source) in sources.iter().enumerate() {
        let title = source.title.as_ref().map(|title| format!("{title}: ")).unwrap_or_default();
        out.push_str(&format!("{}. {title}<{}>\n", n + 1, source.url));
    }
    out
}

#[cfg(test)]
mod tests;

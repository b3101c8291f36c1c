//! What is counted, in the form that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use run_agent_core::Durability;

use crate::App;

/// The upper bounds of the buckets, in microseconds.
const BOUNDS: [u64; 14] =
    [50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

/// How long something took, how often.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    pub(crate) fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[at].fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut sum = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            sum += bucket.load(Relaxed);
            let bound = BOUNDS.get(at).map_or("+Inf".to_owned(), |micros| seconds(*micros));
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {sum}");
        }
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(out, "{name}_sum{braces} {}", seconds(self.micros.load(Relaxed)));
        let _ = writeln!(out, "{name}_count{braces} {sum}");
    }
}

fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Everything that this server counts of itself.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    appended: AtomicU64,
    pub(crate) streamed: AtomicU64,
    pub(crate) clients: AtomicI64,
    pub(crate) dropped: AtomicU64,
    /// Events that the webhook took, and that it did not.
    webhook: [AtomicU64; 2],
    /// Appends by what they survive.
    appends: [Histogram; 3],
    http: Mutex<BTreeMap<(&'static str, u16), u64>>,
    http_took: Histogram,
}

/// The names of the durabilities, in the order of [`Metrics::appends`].
const DURABILITIES: [&str; 3] = ["none", "interval", "always"];

impl Metrics {
    pub(crate) fn appended(&self, durability: Durability, took: Duration) {
        self.appended.fetch_add(1, Relaxed);
        let at = match durability {
            Durability::None => 0,
            Durability::Interval => 1,
            Durability::Always => 2,
        };
        self.appends[at].add(took);
    }

    pub(crate) fn delivered(&self, taken: bool) {
        self.webhook[usize::from(!taken)].fetch_add(1, Relaxed);
    }

    pub(crate) fn answered(&self, method: &Method, status: u16, took: Duration) {
        self.http_took.add(took);
        let mut http = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        // A client may name as many methods as it likes.
        let known = ["GET", "HEAD", "POST", "DELETE", "OPTIONS"].into_iter().find(|known| method == known);
        *http.entry((known.unwrap_or("other"), status)).or_default() += 1;
    }
}

/// Counts a request with what it came to.
pub(crate) async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (began, method) = (Instant::now(), request.method().clone());
    let response = next.run(request).await;
    app.metrics.answered(&method, response.status().as_u16(), began.elapsed());
    response
}

/// Text that grows by families.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(crate) fn value(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    pub(crate) fn values<'a>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        self.family(name, kind, help);
        for (of, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{of}\"}} {value}");
        }
    }

    pub(crate) fn own(&mut self, metrics: &Metrics) {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        self.value(
            "run_agent_messages_appended_total",
            "counter",
            "Messages that this server appended.",
            count(&metrics.appended),
        );
        self.value(
            "run_agent_messages_streamed_total",
            "counter",
            "Events that were sent to clients of streams.",
            count(&metrics.streamed),
        );
        self.value(
            "run_agent_stream_clients",
            "gauge",
            "Clients of streams that are connected.",
            metrics.clients.load(Relaxed),
        );
        self.value(
            "run_agent_stream_clients_dropped_total",
            "counter",
            "Clients that were too slow.",
            count(&metrics.dropped),
        );
        let webhook = ["taken", "left_out"].into_iter().zip(&metrics.webhook);
        let webhook = webhook.map(|(of, counter)| (of, count(counter)));
        self.values(
            "run_agent_webhook_events_total",
            "counter",
            "Events posted to the webhook.",
            "outcome",
            webhook,
        );
        let name = "run_agent_append_seconds";
        self.family(
            name,
            "histogram",
            "What an append of this server took, with its sync where its durability has one.",
        );
        for (of, histogram) in DURABILITIES.iter().zip(&metrics.appends) {
            histogram.write(&mut self.0, name, &format!("durability=\"{of}\""));
        }
        let name = "run_agent_http_requests_total";
        self.family(name, "counter", "Requests by method and status.");
        for ((method, status), count) in &*metrics.http.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(self.0, "{name}{{method=\"{method}\",status=\"{status}\"}} {count}");
        }
        let name = "run_agent_http_seconds";
        self.family(name, "histogram", "How long it took until an answer began.");
        metrics.http_took.write(&mut self.0, name, "");
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_all_that_is_below_their_bound() {
        let histogram = Histogram::default();
        for micros in [10, 50, 51, 7_000_000] {
            histogram.add(Duration::from_micros(micros));
        }
        let mut text = String::new();
        histogram.write(&mut text, "x", "a=\"b\"");
        assert!(
            text.starts_with("x_bucket{a=\"b\",le=\"0.00005\"} 2\nx_bucket{a=\"b\",le=\"0.0001\"} 3\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "le=\"5\"} 3\nx_bucket{a=\"b\",le=\"+Inf\"} 4\nx_sum{a=\"b\"} 7.000111\nx_count{a=\"b\"} 4"
            ),
            "{text}"
        );
    }
}

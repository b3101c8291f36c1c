//! Chosen events, posted to an address of the operator's: in order, again where it fails, and never in anybody's way. What
//! happened while no server ran is not told.

use std::sync::Arc;
use std::time::Duration;

use run_agent_core::Kind;

use crate::App;
use crate::live::ring::{Event, What};
use crate::routes;

/// So often an event is tried, with the rest in between doubled each time.
const ATTEMPTS: u32 = 8;
const FIRST_REST: Duration = Duration::from_secs(1);

/// Which events are posted; none: all.
pub(crate) async fn run(app: Arc<App>, kinds: Vec<Kind>) {
    app.live.ready().await;
    let (mut newest, mut ends) = (app.live.ring.watch(), app.ends.subscribe());
    let mut seq = app.live.ring.newest();
    loop {
        let _ = newest.borrow_and_update();
        let events = app.live.ring.since(seq, 64).unwrap_or_else(|_| {
            tracing::warn!("the webhook is behind by more than is kept: events are not posted to it");
            seq = app.live.ring.newest();
            Vec::new()
        });
        for event in &events {
            seq = event.seq;
            if is_wanted(event, &kinds) && !deliver(&app, event, &mut ends).await {
                return;
            }
        }
        if events.is_empty() {
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                _ = ends.wait_for(|ends| *ends) => return,
            }
        }
    }
}

fn is_wanted(event: &Event, kinds: &[Kind]) -> bool {
    match &event.what {
        What::Appended { entry, .. } => kinds.is_empty() || kinds.contains(&entry.message.content.kind),
        What::Replaced | What::Gone => false,
    }
}

/// False once the server ends.
async fn deliver(app: &Arc<App>, event: &Event, ends: &mut tokio::sync::watch::Receiver<bool>) -> bool {
    let body: Arc<str> = routes::event_json(event).to_string().into();
    let mut rest = FIRST_REST;
    for attempt in 1..=ATTEMPTS {
        let (work, text) = (app.live.work.clone(), body.clone());
        let told = tokio::task::spawn_blocking(move || work.deliver(&text));
        let told = tokio::select! {
            told = told => told.unwrap_or_else(|error| Err(error.to_string())),
            _ = ends.wait_for(|ends| *ends) => return false,
        };
        let Err(error) = told else {
            app.metrics.delivered(true);
            return true;
        };
        if attempt == ATTEMPTS {
            tracing::warn!(%error, attempts = ATTEMPTS, "an event could not be posted to the webhook, and is left out");
            break;
        }
        tracing::info!(%error, attempt, "the webhook does not take an event; it is tried again");
        tokio::select! {
            () = tokio::time::sleep(rest) => rest *= 2,
            _ = ends.wait_for(|ends| *ends) => return false,
        }
    }
    app.metrics.delivered(false);
    true
}

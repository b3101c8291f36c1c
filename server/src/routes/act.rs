//! Having the program's own commands do what is asked for.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::App;
use crate::error::{Code, Refused};

/// A command that has not ended after so long goes on by itself.
const COMMAND: Duration = Duration::from_secs(60);
/// So long a request waits for others to end.
const TURN: Duration = Duration::from_secs(10);

/// Starts a command; it goes on when nobody waits for it any more.
pub(super) async fn begin(
    app: &Arc<App>,
    words: Vec<String>,
    stdin: String,
) -> Result<JoinHandle<Result<Value, Refused>>, Refused> {
    let turn = tokio::time::timeout(TURN, app.commands.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return Err(Refused::new(Code::TooManyRequests, "too much is being started or stopped; ask again"));
    };
    let work = app.live.work.clone();
    Ok(tokio::task::spawn_blocking(move || {
        let done = work.command(&words, &stdin);
        drop(turn);
        Ok(done?)
    }))
}

/// Runs a command to its end.
pub(super) async fn command(app: &Arc<App>, words: Vec<String>, stdin: String) -> Result<Value, Refused> {
    match tokio::time::timeout(COMMAND, begin(app, words, stdin).await?).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(Refused::internal(&error)),
        Err(_) => {
            let message =
                format!("this takes longer than {} s and goes on; look at it again", COMMAND.as_secs());
            Err(Refused::new(Code::Internal, message))
        }
    }
}

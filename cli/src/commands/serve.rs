//! `serve`: REST and live streams over HTTP, for as long as nobody stops it. Stopping it stops no agent.

mod own;
mod webhook;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use run_agent_server::live::Live;
use run_agent_server::{App, Settings};

use self::own::Own;
use self::webhook::Webhook;
use crate::args::Global;
use crate::config::ServerSettings;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render;

/// So many ports behind the ordinary one are tried, where none was asked for.
const OTHER_PORTS: u16 = 99;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  run-agent serve --port 14355")]
pub(crate) struct ServeArgs {
    /// The address to listen on; other than loopback it needs server.api_key_file [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// The port; 0 for any [default: 14355, or the next free one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

pub(crate) fn run(global: &Global, args: &ServeArgs) -> Outcome {
    let context = Context::open_configured(global)?;
    let config = context.config()?;
    let set = config.server()?;
    let host = args.host.unwrap_or(set.host);
    if !host.is_loopback() && set.api_key.is_none() {
        return Err(Failure::usage(format!(
            "anybody who reaches {host} could start programs here: serve it with a key only"
        ))
        .hint("put one into a file that only you can read, and name that in server.api_key_file"));
    }
    let listener = listen(host, args.port.or(set.port), set.default_port)?;
    let address = listener.local_addr().map_err(|e| Failure::io("cannot listen", &e))?;
    let agents = config.agent_names().into_iter().map(str::to_owned).collect();
    let webhook = Webhook::new(config.webhook()?)?;
    let settings = settings(&context, set, webhook.as_ref());
    let work = Arc::new(Own::new(&context, agents, webhook));
    let live = Live::new(context.tree.layout.clone(), context.tree.store.clone(), work);
    let app = App::new(live, settings);
    let listens = || {
        if context.json {
            let said = serde_json::json!({ "url": format!("http://{address}"), "pid": std::process::id() });
            return render::json(&said).map_err(|failure| io::Error::other(failure.text()));
        }
        render::say(&format!("serving {} at http://{address}", context.tree.layout.root().display()));
        Ok(())
    };
    run_agent_server::run(listener, &app, listens).map_err(|e| Failure::io("the server ended", &e))?;
    Ok(Exit::Done)
}

fn settings(context: &Context, set: ServerSettings, webhook: Option<&Webhook>) -> Settings {
    Settings {
        allowed_hosts: set.allowed_hosts,
        api_key: set.api_key,
        allow_delete_from_ui: set.allow_delete_from_ui,
        durability: context.tree.durability,
        webhook: webhook.map(|webhook| webhook.kinds.clone()),
        version: env!("RUN_AGENT_VERSION").to_owned(),
    }
}

/// The port that was asked for, or the first free one from the ordinary one on.
fn listen(host: IpAddr, wanted: Option<u16>, ordinary: u16) -> Result<TcpListener, Failure> {
    let cannot = |port: u16, e: &io::Error| {
        Failure::io(format!("cannot listen on {}", SocketAddr::new(host, port)), e)
    };
    if let Some(port) = wanted {
        return TcpListener::bind((host, port)).map_err(|e| cannot(port, &e));
    }
    let mut last = ordinary;
    for port in ordinary..=ordinary.saturating_add(OTHER_PORTS) {
        match TcpListener::bind((host, port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => last = port,
            Err(error) => return Err(cannot(port, &error)),
            Ok(listener) => return Ok(listener),
        }
    }
    Err(Failure::new(
        Exit::Failed,
        format!("the ports {ordinary} to {last} of {host} are all taken; name one with --port"),
    ))
}

//! Other databases, each set up so that an append is on the disk when it is acknowledged.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use redb::TableDefinition;
use serde::{Deserialize, Serialize};

use crate::scratch::body;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Which {
    Redis,
    Sqlite,
    Redb,
    Fjall,
}

impl Which {
    /// Several processes may write at once. Of the others one does, with as many threads.
    pub(crate) fn is_shared(self) -> bool {
        match self {
            Self::Redis | Self::Sqlite => true,
            Self::Redb | Self::Fjall => false,
        }
    }
}

const MESSAGES: TableDefinition<'_, u64, &str> = TableDefinition::new("messages");
/// How long a server may take to come up, and a writer waits for the others.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one writer appends to.
pub(crate) enum Database {
    Redis { server: UnixStream, request: Vec<u8> },
    Sqlite { connection: rusqlite::Connection, body: String },
    Redb { database: Arc<redb::Database>, next: Arc<AtomicU64>, body: String },
    Fjall { database: fjall::Database, keyspace: fjall::Keyspace, next: Arc<AtomicU64>, body: String },
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Redis { .. } => "Redis",
            Self::Sqlite { .. } => "Sqlite",
            Self::Redb { .. } => "Redb",
            Self::Fjall { .. } => "Fjall",
        })
    }
}

impl Database {
    /// For so many writers of this process.
    pub(crate) fn open(which: Which, folder: &Path, writers: usize) -> Result<Vec<Self>> {
        let (next, body) = (Arc::new(AtomicU64::new(0)), body());
        match which {
            Which::Redis => (0..writers).map(|_| redis(folder, &body)).collect(),
            Which::Sqlite => (0..writers).map(|_| sqlite(folder, &body)).collect(),
            Which::Redb => {
                let database = Arc::new(redb::Database::create(folder.join("redb"))?);
                let each =
                    || Self::Redb { database: database.clone(), next: next.clone(), body: body.clone() };
                Ok((0..writers).map(|_| each()).collect())
            }
            Which::Fjall => {
                let database = fjall::Database::builder(folder.join("fjall")).open()?;
                let keyspace = database.keyspace("messages", fjall::KeyspaceCreateOptions::default)?;
                let each = || Self::Fjall {
                    database: database.clone(),
                    keyspace: keyspace.clone(),
                    next: next.clone(),
                    body: body.clone(),
                };
                Ok((0..writers).map(|_| each()).collect())
            }
        }
    }

    pub(crate) fn post(&mut self) -> Result<()> {
        match self {
            Self::Redis { server, request } => {
                server.write_all(request)?;
                let mut answer = [0; 256];
                let read = server.read(&mut answer)?;
                ensure!(answer[..read].starts_with(b"$"), "{}", String::from_utf8_lossy(&answer[..read]));
            }
            Self::Sqlite { connection, body } => {
                connection.prepare_cached("INSERT INTO messages (body) VALUES (?1)")?.execute([&*body])?;
            }
            Self::Redb { database, next, body } => {
                let write = database.begin_write()?;
                let _ = write
                    .open_table(MESSAGES)?
                    .insert(next.fetch_add(1, Ordering::Relaxed), body.as_str())?;
                write.commit()?;
            }
            Self::Fjall { database, keyspace, next, body } => {
                keyspace.insert(next.fetch_add(1, Ordering::Relaxed).to_be_bytes(), body.as_str())?;
                database.persist(fjall::PersistMode::SyncData)?;
            }
        }
        Ok(())
    }
}

fn redis(folder: &Path, body: &str) -> Result<Database> {
    let server = UnixStream::connect(socket(folder))?;
    let words = ["XADD", "messages", "*", "body", body];
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    Ok(Database::Redis { server, request: request.into_bytes() })
}

fn sqlite(folder: &Path, body: &str) -> Result<Database> {
    let connection = rusqlite::Connection::open(folder.join("sqlite"))?;
    connection.busy_timeout(PATIENCE)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    ensure!(mode == "wal", "SQLite writes no WAL but {mode}");
    connection.execute_batch(
        "PRAGMA synchronous = FULL; CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, body TEXT)",
    )?;
    Ok(Database::Sqlite { connection, body: body.to_owned() })
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

/// A Redis of our own, which syncs each write before it is acknowledged; ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Redis {
    /// `None` where it is not installed.
    pub(crate) fn start(folder: &Path) -> Result<Option<Self>> {
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
        command.arg("--unixsocket").arg(socket(folder)).arg("--dir").arg(folder);
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = match started {
            Ok(child) => Self(child),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("cannot start redis-server"),
        };
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(socket(folder)).is_err() {
            if Instant::now() > deadline {
                bail!("redis-server does not come up");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(server))
    }
}

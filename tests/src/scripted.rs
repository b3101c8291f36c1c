//! The scripted endpoint that speaks the providers' interfaces, where it lies beside this repository. Prompts say what
//! it is to answer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::text_of;

/// Ended with the test.
#[derive(Debug)]
pub struct Scripted {
    server: Child,
    pub port: String,
    _folder: TempDir,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Scripted {
    /// # Errors
    /// Why it is not to be had here.
    pub fn serve() -> Result<Self, String> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let program = repository.join("../shared/rig/fake_llm.py");
        if !program.is_file() {
            return Err(format!("there is no {}", program.display()));
        }
        let folder = tempfile::tempdir().unwrap();
        let port_file = folder.path().join("port");
        let mut command = Command::new("python3");
        command.arg(program).args(["--port", "0", "--port-file"]).arg(&port_file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().map_err(|error| format!("cannot start python3: {error}"))?;
        let mut endpoint = Self { server, port: String::new(), _folder: folder };
        endpoint.port = text_of(&port_file);
        Ok(endpoint)
    }

    /// What it noted of each request.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{}", self.port)).unwrap();
        stream.write_all(b"GET /_requests HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let list: serde_json::Value = serde_json::from_str(body).unwrap();
        list.as_array().unwrap().iter().map(|one| one["note"].as_str().unwrap().to_owned()).collect()
    }
}

//! HTTP/1.1 as far as the measurements need it: one request after the other on a connection that stays, and streams of
//! events. By hand, so that the load takes as little of the processor as it can from what is measured.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Longer lines than any that is sent here are an error.
const LINE_MAX: u64 = 1 << 16;

/// A request as it is sent. Without a body it is a GET.
pub(crate) fn request(address: &str, path: &str, headers: &str, body: Option<&str>) -> String {
    let head = format!("{path} HTTP/1.1\r\nHost: {address}\r\n{headers}");
    match body {
        None => format!("GET {head}\r\n"),
        Some(body) => {
            let len = body.len();
            format!("POST {head}Content-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}")
        }
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    /// What was read last.
    bytes: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot reach the server")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), bytes: Vec::new() })
    }

    /// Asks, and reads the whole answer. How many bytes its body has.
    pub(crate) async fn ask(&mut self, request: &str) -> Result<usize> {
        let length = self.begin(request).await?.context("the answer does not tell its length")?;
        self.bytes.resize(length, 0);
        self.stream.read_exact(&mut self.bytes).await?;
        Ok(length)
    }

    /// Asks, and reads the answer's head. The length of its body, where it is told.
    pub(crate) async fn begin(&mut self, request: &str) -> Result<Option<usize>> {
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        let status = self.line().await?.context("no answer")?.to_owned();
        let mut length = None;
        loop {
            let line = self.line().await?.context("the answer ends in its head")?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse()?);
            }
        }
        ensure!(status.starts_with("HTTP/1.1 20"), "{status:?} to {:?}", request.lines().next());
        Ok(length)
    }

    /// The data of the next event of a stream that has begun, if it has any. The pieces of such an answer end with whole
    /// events, so that their sizes stand on lines of their own, which are passed over as all others are.
    pub(crate) async fn data(&mut self) -> Result<&str> {
        loop {
            let Some(line) = self.line().await? else { bail!("the stream has ended") };
            if line.starts_with("event: dropped") || line.starts_with("event: reset") {
                bail!("the stream was cut: {line}");
            }
            if line.starts_with("data: ") {
                break;
            }
        }
        let data = self.bytes.strip_prefix(b"data: ").unwrap_or_default();
        Ok(std::str::from_utf8(data)?.trim_end())
    }

    async fn line(&mut self) -> Result<Option<&str>> {
        self.bytes.clear();
        let read = (&mut self.stream).take(LINE_MAX).read_until(b'\n', &mut self.bytes).await?;
        if read == 0 {
            return Ok(None);
        }
        ensure!(self.bytes.ends_with(b"\n"), "a line that is too long");
        Ok(Some(std::str::from_utf8(&self.bytes)?.trim_end()))
    }
}

//! A server that is a process of the sidecar: a message is a line on its standard input or output.

use std::{io, process, sync::Arc, time::Duration};

use async_trait::async_trait;
use blocks::Tasks;
use bytes::Bytes;
use futures::StreamExt;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};
use tokio_util::{
    codec::{FramedRead, LinesCodec, LinesCodecError},
    sync::{CancellationToken, DropGuard},
};

use super::{Json, Transport, duplex::Waiting};
use crate::{Error, endpoint, error::within};

pub struct Stdio {
    input: Input,
    waiting: Waiting,
    /// Ends the process.
    _open: DropGuard,
}

/// The process's input; none once it has been closed, by which a server knows that it is to end.
#[derive(Clone)]
struct Input(Arc<Mutex<Option<ChildStdin>>>);

impl Stdio {
    /// # Errors
    /// Where the program cannot be started.
    pub fn open(stdio: endpoint::Stdio, limit: usize, tasks: &Tasks) -> Result<Self, Error> {
        let mut command = Command::new(&stdio.command);
        command
            .args(&stdio.args)
            .envs(stdio.env)
            .stdin(process::Stdio::piped())
            .stdout(process::Stdio::piped())
            .stderr(process::Stdio::null())
            .kill_on_drop(true);
        // Q-mcp-stdio: what opens the sidecar's own doors is not for other programs.
        for own in OWN {
            command.env_remove(own);
        }
        let cannot = |what: String| Error::unusable(format!("{}: {what}", stdio.command));
        let mut child = command
            .spawn()
            .map_err(|error| cannot(format!("it cannot be started: {error}")))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = output.ok_or_else(|| cannot("it has no output".to_owned()))?;
        let input = Input(Arc::new(Mutex::new(input)));
        let (waiting, open) = (Waiting::default(), CancellationToken::new());
        let process = Process {
            child,
            lines: FramedRead::new(output, LinesCodec::new_with_max_length(limit)),
            input: input.clone(),
            waiting: waiting.clone(),
        };
        tasks.spawn("MCP server's process", process.run(open.clone()));
        Ok(Self {
            input,
            waiting,
            _open: open.drop_guard(),
        })
    }
}

struct Process {
    child: Child,
    lines: FramedRead<ChildStdout, LinesCodec>,
    input: Input,
    waiting: Waiting,
}

impl Process {
    /// Reads until the process ends or `end`, then sees to it that it ends.
    async fn run(mut self, end: CancellationToken) {
        let reason = end.run_until_cancelled(self.read()).await;
        let reason = reason.unwrap_or_else(|| "the session is over".to_owned());
        self.waiting.close(&reason);
        self.input.0.lock().await.take();
        match tokio::time::timeout(GRACE, self.child.wait()).await {
            Ok(ended) => tracing::debug!("an MCP server's process has ended: {ended:?}"),
            Err(_) => {
                if let Err(error) = self.child.kill().await {
                    tracing::warn!("an MCP server's process cannot be ended: {error}");
                }
            }
        }
    }

    async fn read(&mut self) -> String {
        loop {
            match self.lines.next().await {
                Some(Ok(line)) => {
                    for answer in self.waiting.take(line.as_bytes()) {
                        if let Err(error) = within(GRACE, self.input.send(&answer)).await {
                            return error.to_string();
                        }
                    }
                }
                Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
                    return "the process sent a message that is too large".to_owned();
                }
                Some(Err(LinesCodecError::Io(error))) => return error.to_string(),
                None => return "the process has closed its output".to_owned(),
            }
        }
    }
}

impl Input {
    /// Whoever gives up in the middle of a line leaves a process that cannot be spoken to any more: its input is closed.
    async fn send(&self, message: &[u8]) -> Result<(), Error> {
        let mut held = self.0.lock().await;
        let input = held.take();
        let mut input = input.ok_or_else(|| Error::closed("the process has ended"))?;
        let mut line = Vec::with_capacity(message.len() + 1);
        line.extend_from_slice(message);
        line.push(b'\n');
        let written = async {
            input.write_all(&line).await?;
            input.flush().await
        };
        let written: io::Result<()> = written.await;
        written.map_err(|error| Error::broken_off(error.to_string()))?;
        *held = Some(input);
        Ok(())
    }
}

#[async_trait]
impl Transport for Stdio {
    async fn request(&self, id: u64, message: Bytes) -> Result<Json, Error> {
        let ticket = self.waiting.enter(id)?;
        self.input.send(&message).await?;
        ticket.answer().await
    }

    async fn notify(&self, message: Bytes) -> Result<(), Error> {
        self.input.send(&message).await
    }
}

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// Variables of the sidecar that other programs do not get.
const OWN: [&str; 2] = ["DAPR_API_TOKEN", "APP_API_TOKEN"];

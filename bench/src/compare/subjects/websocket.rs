//! One WebSocket over TLS, as it comes or tuned.

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_rustls::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use super::common::{
    Carry, Congestion, Newest, Stream, Taking, Tuning, Way, dial, hear, listen, serve, versions,
};
use super::fleet::{Fleet, ready};
use super::{End, Facts, Reach, Subject, Work};
use crate::compare::workload::Manner;

/// A plain WebSocket.
#[derive(Clone, Copy, Debug)]
pub(super) struct WebSocket {
    tuning: Tuning,
}

impl WebSocket {
    /// As it comes.
    pub(super) const fn plain() -> Self {
        Self { tuning: Tuning::NONE }
    }

    /// Tuned.
    pub(super) const fn best() -> Self {
        Self { tuning: Tuning { congestion: Congestion::Bbr, is_best: true } }
    }

    const fn manner(self) -> Manner {
        if self.tuning.is_best { Manner::NewestFirst } else { Manner::AsTheyCome }
    }

    fn carrying(self) -> Carrying {
        Carrying { manner: self.manner(), newest: Newest::new() }
    }
}

impl Subject for WebSocket {
    fn facts(&self) -> Facts {
        let (title, files) = if self.tuning.is_best {
            ("WebSocket, best practice", "files in pieces of 4 KiB when nothing else waits")
        } else {
            ("WebSocket, as it comes", "files in pieces of 16 KiB in fair turn with messages")
        };
        Facts {
            title: title.into(),
            version: versions(&["tokio-tungstenite", "rustls"]),
            setup: format!("{}; {files}", self.tuning.words()),
            manner: self.manner(),
        }
    }

    fn serve(&self, ends: Vec<End>) -> Work {
        let this = *self;
        Box::pin(async move {
            let end = ends.first().context("a gateway has a vehicle")?;
            this.tuning.prove("gateway", end)?;
            let (listener, tcp) = listen(end).await?;
            ready(&ends, Reach { tcp, ..Reach::default() });
            serve(listener, this.tuning, Fleet::new(ends, |_| this.carrying())).await
        })
    }

    fn drive(&self, end: End, reach: Reach) -> Work {
        Box::pin(dial(reach.tcp, self.tuning, end, self.carrying()))
    }
}

#[derive(Clone, Debug)]
struct Carrying {
    manner: Manner,
    newest: Newest,
}

impl Carry for Carrying {
    async fn carry(self, stream: Stream, end: End) -> Result<()> {
        let socket = match &stream {
            TlsStream::Server(_) => accept_async(stream).await.context("the upgrade")?,
            TlsStream::Client(_) => {
                let url = format!("wss://{}/", end.host);
                client_async(url, stream).await.context("the upgrade")?.0
            }
        };
        end.ready(Reach::default());
        self.newest.alone(converse(socket, self.manner, &end)).await?;
        bail!("the other end has closed the connection")
    }
}

async fn converse(socket: WebSocketStream<Stream>, manner: Manner, end: &End) -> Result<()> {
    let (mut writer, mut reader) = socket.split();
    let mut taking = Taking::new(end, Way::Everything, manner);
    let say = async {
        loop {
            let message = Message::Binary(taking.next().await);
            writer.send(message).await.context("cannot write")?;
        }
    };
    let listen = async {
        while let Some(message) = reader.next().await {
            match message.context("cannot read")? {
                Message::Binary(message) => hear(end, &message),
                Message::Close(_) => break,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Ok(())
    };
    tokio::select! {
        heard = listen => heard,
        said = say => said,
    }
}

//! Messages after their length, on one TCP connection with TLS, or on two: the second for files.

use anyhow::{Context as _, Result, bail};

use super::common::{
    Carry, Congestion, Newest, Stream, Taking, Tuning, Way, dial, hear_frames, listen, serve, versions,
    write_frame,
};
use super::fleet::{Fleet, ready};
use super::{End, Facts, Reach, Subject, Work};
use crate::compare::workload::Manner;

/// Plain TCP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tcp {
    tuning: Tuning,
    is_split: bool,
}

impl Tcp {
    /// As it comes, with cubic.
    pub(super) const fn default_practice() -> Self {
        Self { tuning: Tuning { congestion: Congestion::Cubic, is_best: false }, is_split: false }
    }

    /// One connection, tuned.
    pub(super) const fn one(congestion: Congestion) -> Self {
        Self { tuning: Tuning { congestion, is_best: true }, is_split: false }
    }

    /// Two connections, tuned.
    pub(super) const fn two(congestion: Congestion) -> Self {
        Self { tuning: Tuning { congestion, is_best: true }, is_split: true }
    }

    const fn manner(self) -> Manner {
        if self.tuning.is_best { Manner::NewestFirst } else { Manner::AsTheyCome }
    }

    fn framed(self, way: Way) -> Framed {
        Framed { way, manner: self.manner(), newest: Newest::new() }
    }
}

impl Subject for Tcp {
    fn facts(&self) -> Facts {
        let congestion = self.tuning.congestion.name().unwrap_or("as the system has it");
        let connections = if self.is_split { "two connections" } else { "one connection" };
        let mut setup = self.tuning.words();
        if self.tuning.is_best {
            setup += "; files in pieces of 4 KiB when nothing else waits";
        } else {
            setup += "; files in pieces of 16 KiB in fair turn with messages";
        }
        if self.is_split {
            setup += "; files and camera on the second connection";
        }
        Facts {
            title: format!("TCP and TLS, {connections}, {congestion}"),
            version: versions(&["tokio", "rustls"]),
            setup,
            manner: self.manner(),
        }
    }

    fn serve(&self, ends: Vec<End>) -> Work {
        let tcp = *self;
        Box::pin(async move {
            let end = ends.first().context("a gateway has a vehicle")?;
            tcp.tuning.prove("gateway", end)?;
            let (first, port) = listen(end).await?;
            let fleet = |way| Fleet::new(ends.clone(), |_| tcp.framed(way));
            if !tcp.is_split {
                ready(&ends, Reach { tcp: port, ..Reach::default() });
                return serve(first, tcp.tuning, fleet(Way::Everything)).await;
            }
            let (files, second) = listen(end).await?;
            ready(&ends, Reach { tcp: port, second, ..Reach::default() });
            tokio::try_join!(
                serve(first, tcp.tuning, fleet(Way::Messages)),
                serve(files, tcp.tuning, fleet(Way::Files)),
            )?;
            Ok(())
        })
    }

    fn drive(&self, end: End, reach: Reach) -> Work {
        let tcp = *self;
        Box::pin(async move {
            if !tcp.is_split {
                return dial(reach.tcp, tcp.tuning, end, tcp.framed(Way::Everything)).await;
            }
            tokio::try_join!(
                dial(reach.tcp, tcp.tuning, end.clone(), tcp.framed(Way::Messages)),
                dial(reach.second, tcp.tuning, end, tcp.framed(Way::Files)),
            )?;
            Ok(())
        })
    }
}

/// One connection.
#[derive(Clone, Debug)]
struct Framed {
    way: Way,
    manner: Manner,
    newest: Newest,
}

impl Carry for Framed {
    async fn carry(self, stream: Stream, end: End) -> Result<()> {
        if self.way != Way::Files {
            end.ready(Reach::default());
        }
        let (reader, mut writer) = tokio::io::split(stream);
        let mut taking = Taking::new(&end, self.way, self.manner);
        let say = async {
            loop {
                write_frame(&mut writer, &taking.next().await).await?;
            }
        };
        let work = async {
            tokio::select! {
                heard = hear_frames(reader, &end) => heard,
                said = say => said,
            }
        };
        self.newest.alone(work).await?;
        bail!("the other end has closed the connection")
    }
}

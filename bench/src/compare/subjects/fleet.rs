//! One gateway, several vehicles.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use carriageway_transport::identity::Identity;
use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;

use super::{End, Reach, Work};

/// The gateway's ends of all vehicles, each with what its subject keeps for it. Clones are one.
pub(super) struct Fleet<T>(Arc<Vec<(End, T)>>);

impl<T> Clone for Fleet<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone> Fleet<T> {
    pub(super) fn new(ends: Vec<End>, keep: impl Fn(&End) -> T) -> Self {
        let with = |end: End| {
            let kept = keep(&end);
            (end, kept)
        };
        Self(Arc::new(ends.into_iter().map(with).collect()))
    }

    /// For what is the same in all: the gateway's papers and address, notes, and when it is over.
    pub(super) fn any(&self) -> &End {
        &self.0.first().expect("a gateway has a vehicle").0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whose connection it is that shows this chain. To the gateway of one vehicle nobody shows any.
    pub(super) fn whose(&self, chain: Option<&[CertificateDer<'static>]>) -> Result<(End, T)> {
        if let [one] = &self.0[..] {
            return Ok(one.clone());
        }
        let Identity::Vehicle(name) = Identity::from_chain(chain.unwrap_or_default())?;
        let found = self.0.iter().find(|(end, _)| end.vehicle() == name.as_str());
        found.cloned().with_context(|| format!("{name} is no vehicle of this gateway"))
    }
}

/// All find the gateway there.
pub(super) fn ready(ends: &[End], reach: Reach) {
    for end in ends {
        end.ready(reach);
    }
}

/// Serves each vehicle apart from the others, on the one thread.
pub(super) fn apart(ends: Vec<End>, serve: impl Fn(End) -> Work) -> Work {
    if let [end, _, ..] = &ends[..] {
        end.note("the gateway has a listener for each vehicle");
    }
    let work: Vec<_> = ends.into_iter().map(serve).collect();
    Box::pin(async move {
        let mut each: JoinSet<_> = work.into_iter().collect();
        while let Some(ended) = each.join_next().await {
            // One that fails ends the gateway, as where it has one vehicle.
            ended.context("the gateway's part of a vehicle")??;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;

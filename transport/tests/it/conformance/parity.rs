//! PARITY: the same application trace ends alike over every connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use carriageway_proto::Class;
use carriageway_transport::link::Happening;
use tokio::task::JoinSet;

use super::rig::{Rig, Side, eventually, take};

/// A small generator, so that a trace is the same on every run (Steele et al., splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

type Lanes = BTreeMap<Class, Vec<Bytes>>;

/// Random messages in both directions with cuts in between: each side receives, per lane, exactly
/// what the other sent.
pub(super) async fn a_random_trace_ends_alike(rig: &Rig) {
    for seed in 1..=3 {
        let mut chance = Chance(seed);
        let mut world = rig.session().await;
        let heard = [listen(&mut world.far, &mut world.tasks), listen(&mut world.near, &mut world.tasks)];
        let mut said = [Lanes::new(), Lanes::new()];
        for n in 0..120u64 {
            if chance.below(25) == 0 {
                world.reconnect(rig).await;
            }
            let class = Class::ALL[chance.below(8) as usize];
            let size = chance.below(900) as usize;
            let payload = Bytes::from([&n.to_be_bytes()[..], &vec![n as u8; size]].concat());
            let from = chance.below(2) as usize;
            let link = if from == 0 { &world.near.link } else { &world.far.link };
            link.send(class, payload.clone(), None).unwrap();
            said[from].entry(class).or_default().push(payload);
        }
        for (heard, said) in heard.iter().zip(&said) {
            let count = |lanes: &Lanes| lanes.values().map(Vec::len).sum::<usize>();
            eventually(|| count(&heard.lock().unwrap()) >= count(said)).await;
            assert_eq!(&*heard.lock().unwrap(), said, "seed {seed}");
        }
    }
}

/// Collects what a side receives, by lane.
fn listen(side: &mut Side, tasks: &mut JoinSet<()>) -> Arc<Mutex<Lanes>> {
    let heard = Arc::<Mutex<Lanes>>::default();
    let (mut happenings, into) = (take(&mut side.happenings), Arc::clone(&heard));
    tasks.spawn(async move {
        while let Some(happening) = happenings.recv().await {
            if let Happening::Message { class, payload } = happening {
                into.lock().unwrap().entry(class).or_default().push(payload);
            }
        }
    });
    heard
}

//! One conformance suite over every connection: what "identical semantics" means.
//!
//! Each property is a function over a [`rig::Rig`]; the macro at the end runs all of them over each
//! kind of connection.

mod hostile;
mod lanes;
mod limits;
mod parity;
pub(crate) mod rig;
mod signals;

macro_rules! conformance {
    ($($kind:ident => $rig:expr;)*) => {
        $(mod $kind {
            use super::*;

            conformance!(@tests $rig;
                lanes: lanes_survive_a_cut, expired_frames_are_a_gap, safety_overtakes_bulk,
                       a_new_session_loses_nothing_unsent;
                signals: only_the_newest_value_counts, signals_pass_a_saturated_bulk_lane,
                         control_is_latest_wins_and_passes_bulk;
                limits: every_lane_is_bounded, a_slow_reader_slows_only_itself, every_close_code_arrives;
                hostile: garbage_costs_the_connection_not_the_session, another_version_is_refused,
                         silence_in_the_lobby_ends, acks_of_the_unsent_are_refused;
                parity: a_random_trace_ends_alike;
            );
        })*
    };
    (@tests $rig:expr; $($module:ident: $($name:ident),*;)*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $module::$name(&$rig).await;
            }
        )*)*
    };
}

conformance! {
    memory => rig::memory(carriageway_transport::memory::INDEPENDENT);
    memory_shared => rig::memory(carriageway_transport::memory::SHARED);
    quic => rig::Rig::new(crate::quic::pairs());
    websocket => rig::Rig::new(crate::websocket::pairs().await);
}

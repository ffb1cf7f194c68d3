//! What MQTT's subjects and Media over QUIC call things.

use carriageway_netem::core::Direction;

/// What the topics of a vehicle and one direction begin with.
pub(super) fn topics(vehicle: &str, direction: Direction) -> String {
    let way = match direction {
        Direction::Up => "up",
        Direction::Down => "down",
    };
    format!("vehicles/{vehicle}/{way}/")
}

/// The way back.
pub(super) const fn other(direction: Direction) -> Direction {
    match direction {
        Direction::Up => Direction::Down,
        Direction::Down => Direction::Up,
    }
}

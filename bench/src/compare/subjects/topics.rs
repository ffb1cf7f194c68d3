//! What MQTT's subjects call things.

use carriageway_netem::core::Direction;

use super::VEHICLE;

/// What the topics of one direction begin with.
pub(super) fn topics(direction: Direction) -> String {
    let way = match direction {
        Direction::Up => "up",
        Direction::Down => "down",
    };
    format!("vehicles/{VEHICLE}/{way}/")
}

/// The way back.
pub(super) const fn other(direction: Direction) -> Direction {
    match direction {
        Direction::Up => Direction::Down,
        Direction::Down => Direction::Up,
    }
}

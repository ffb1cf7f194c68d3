//! How many pieces of a file may be on their way: the library takes whatever it is given, and keeps it.

/// Pieces that are written and not yet confirmed, 128 KiB: twice a stream's window, so that the stream is what waits.
pub(super) const MOST: u32 = 32;

/// Pieces that come before one confirmation, well below [`MOST`]: the writer goes on while it is under way.
pub(super) const EVERY: u32 = 8;

/// The writer's side, on one connection.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// One past the last piece that was written, and one past the last that is confirmed.
    ends: Option<(u32, u32)>,
}

impl Window {
    /// Whether one more may be written.
    pub(super) fn has_room(&self) -> bool {
        self.ends.is_none_or(|(written, confirmed)| written.saturating_sub(confirmed) < MOST)
    }

    /// This piece is written. The first is the first of the connection, whatever its number.
    pub(super) fn write(&mut self, number: u32) {
        let confirmed = self.ends.map_or(number, |(_, confirmed)| confirmed);
        self.ends = Some((number.saturating_add(1), confirmed));
    }

    /// This piece and all before it have come.
    pub(super) fn confirm(&mut self, number: u32) {
        if let Some((written, confirmed)) = &mut self.ends {
            // Confirmations overtake each other, and say nothing of what was never written.
            *confirmed = number.saturating_add(1).clamp(*confirmed, *written);
        }
    }
}

/// The reader's side, on one connection.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    unsaid: u32,
}

impl Receipts {
    /// A piece has come; whether that is to be said now.
    pub(super) fn take(&mut self) -> bool {
        self.unsaid += 1;
        let is_due = self.unsaid >= EVERY;
        if is_due {
            self.unsaid = 0;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes from this number until there is no room, and returns how many that were: too many where there is no end.
    fn fill(window: &mut Window, from: u32) -> u32 {
        let mut next = from;
        while window.has_room() && next - from <= MOST {
            window.write(next);
            next += 1;
        }
        next - from
    }

    #[test]
    fn as_many_are_on_the_way_as_are_not_confirmed() {
        let mut window = Window::default();
        assert_eq!(fill(&mut window, 700), MOST, "a connection begins where the file is");
        window.confirm(700 + 7);
        assert_eq!(fill(&mut window, 700 + MOST), 8);
        assert!(!window.has_room());
    }

    #[test]
    fn confirmations_that_are_late_or_of_nothing_change_nothing() {
        let mut window = Window::default();
        window.confirm(9);
        assert_eq!(fill(&mut window, 0), MOST);
        window.confirm(20);
        window.confirm(3);
        assert_eq!(fill(&mut window, MOST), 21);
        window.confirm(u32::MAX);
        assert_eq!(fill(&mut window, MOST + 21), MOST, "what is written is all that can be confirmed");
    }

    #[test]
    fn a_full_window_is_always_confirmed_in_part() {
        let (mut window, mut receipts) = (Window::default(), Receipts::default());
        let mut number = 0;
        for _ in 0..100 {
            let written = fill(&mut window, number);
            assert!(written > 0, "it stands still at {number}");
            for piece in number..number + written {
                if receipts.take() {
                    window.confirm(piece);
                }
            }
            number += written;
        }
    }

    #[test]
    fn one_of_several_pieces_is_confirmed() {
        let mut receipts = Receipts::default();
        let said = (0..EVERY * 3).filter(|_| receipts.take()).count();
        assert_eq!(said, 3);
    }
}

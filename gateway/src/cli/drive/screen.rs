//! The terminal: raw while it is driven from, and as it was before whatever happens.

use std::io::{Write, stdout};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute, queue, style};
use tokio::sync::mpsc;

use super::hands::Push;

/// Keys that may wait: half a second of a hand on the keyboard.
const WAITING: usize = 64;

/// How often the reader looks whether anybody still listens.
const LOOK: Duration = Duration::from_millis(100);

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Move something.
    Push(Push),
    /// Leave the safe state.
    Rearm,
    /// Take the lease.
    Take {
        /// By force.
        force: bool,
    },
    /// Stop at once.
    EmergencyStop,
    /// Release and end.
    Quit,
}

/// The terminal, taken. Gives it back when dropped.
pub struct Screen(());

impl Screen {
    /// Takes the terminal.
    pub fn take() -> Result<Self> {
        enable_raw_mode().context("this is no terminal to drive from; try --script")?;
        let screen = Self(());
        execute!(stdout(), EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }

    /// Shows these lines.
    pub fn show(&self, title: &str, lines: &[String]) -> Result<()> {
        let mut out = stdout().lock();
        queue!(out, cursor::MoveTo(0, 0), style::Print(title), Clear(ClearType::UntilNewLine))?;
        queue!(out, cursor::MoveToNextLine(2))?;
        for line in lines {
            queue!(out, style::Print(line), Clear(ClearType::UntilNewLine), cursor::MoveToNextLine(1))?;
        }
        Ok(out.flush()?)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing any more.
        let _restored = execute!(stdout(), cursor::Show, LeaveAlternateScreen);
        let _cooked = disable_raw_mode();
    }
}

/// Keys as they come, from a thread of their own, for reading them blocks. It ends soon after the
/// receiver is dropped.
pub fn keys() -> Result<mpsc::Receiver<Key>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let reader = thread::Builder::new().name("keys".into());
    reader.spawn(move || read(&sender)).context("no thread for the keyboard")?;
    Ok(receiver)
}

fn read(keys: &mpsc::Sender<Key>) {
    while !keys.is_closed() {
        let event = match event::poll(LOOK) {
            Ok(true) => event::read(),
            Ok(false) => continue,
            Err(error) => Err(error),
        };
        // A terminal that is gone ends the drive.
        let Ok(event) = event else { return };
        let Event::Key(event) = event else { continue };
        if let Some(key) = meaning(event).filter(|_| event.kind != KeyEventKind::Release)
            && keys.blocking_send(key).is_err()
        {
            return;
        }
    }
}

fn meaning(event: KeyEvent) -> Option<Key> {
    if event.modifiers.contains(KeyModifiers::CONTROL) {
        return (event.code == KeyCode::Char('c')).then_some(Key::Quit);
    }
    Some(match event.code {
        KeyCode::Left | KeyCode::Char('a') => Key::Push(Push::Left),
        KeyCode::Right | KeyCode::Char('d') => Key::Push(Push::Right),
        KeyCode::Up | KeyCode::Char('w') => Key::Push(Push::Faster),
        KeyCode::Down | KeyCode::Char('s') => Key::Push(Push::Brake),
        KeyCode::Char('r') => Key::Rearm,
        KeyCode::Char('t') => Key::Take { force: false },
        KeyCode::Char('T') => Key::Take { force: true },
        KeyCode::Char(' ') => Key::EmergencyStop,
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_screen_says() {
        let key = |code| meaning(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(key(KeyCode::Char(' ')), Some(Key::EmergencyStop));
        assert_eq!(key(KeyCode::Up), Some(Key::Push(Push::Faster)));
        assert_eq!(key(KeyCode::Char('T')), Some(Key::Take { force: true }));
        assert_eq!(key(KeyCode::Char('x')), None);
        assert_eq!(meaning(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Key::Quit));
    }
}

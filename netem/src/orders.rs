//! Orders to a thread that owns a [`Poller`](crate::poller::Poller), each answered once it is carried out.

use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::Duration;

use crate::poller::Waker;

/// Orders that may wait.
const MOST_ORDERS: usize = 16;
/// How long the thread may take before it counts as gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the emulator's thread has ended; what it said on standard error tells why")]
pub struct Gone;

/// The asking side. The thread ends when this is dropped.
pub(crate) struct Orders<C, A> {
    sender: Option<SyncSender<(C, SyncSender<A>)>>,
    waker: Waker,
    thread: Option<thread::JoinHandle<io::Result<()>>>,
}

/// The thread's side.
pub(crate) struct Inbox<C, A>(Receiver<(C, SyncSender<A>)>);

/// The asking side is gone: the thread is to end.
pub(crate) struct Deserted;

impl<C: Send + 'static, A: Send + 'static> Orders<C, A> {
    /// Starts the thread that runs `work`; `waker` wakes its poller.
    pub(crate) fn start(
        name: &str,
        waker: Waker,
        work: impl FnOnce(Inbox<C, A>) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, inbox) = mpsc::sync_channel(MOST_ORDERS);
        let thread = thread::Builder::new().name(name.into()).spawn(move || work(Inbox(inbox)))?;
        Ok(Self { sender: Some(sender), waker, thread: Some(thread) })
    }

    /// Returns once the thread has obeyed.
    pub(crate) fn ask(&self, command: C) -> Result<A, Gone> {
        let (answer, asked) = mpsc::sync_channel(1);
        let sender = self.sender.as_ref().ok_or(Gone)?;
        sender.send((command, answer)).map_err(|_| Gone)?;
        self.waker.wake();
        asked.recv_timeout(ANSWER_WITHIN).map_err(|_| Gone)
    }

    /// Ends the thread, waits for it and gives its result.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.sender = None;
        self.waker.wake();
        match self.thread.take() {
            Some(thread) => thread.join().expect("the emulator's thread does not panic"),
            None => Ok(()),
        }
    }
}

impl<C, A> Drop for Orders<C, A> {
    fn drop(&mut self) {
        self.sender = None;
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // Its error was a socket's; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

impl<C, A> Inbox<C, A> {
    /// Carries out what has been ordered.
    pub(crate) fn obey(&self, mut carry_out: impl FnMut(C) -> A) -> Result<(), Deserted> {
        loop {
            match self.0.try_recv() {
                // The asker may have lost patience.
                Ok((command, answer)) => drop(answer.try_send(carry_out(command))),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Deserted),
            }
        }
    }
}

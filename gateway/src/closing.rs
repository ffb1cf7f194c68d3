//! The word that the gateway closes, for every task that has to end then.

use tokio::sync::watch;

/// Says the word.
#[derive(Debug)]
pub struct Closer(watch::Sender<bool>);

/// Hears the word.
#[derive(Clone, Debug)]
pub struct Closing(watch::Receiver<bool>);

/// The two ends.
pub fn pair() -> (Closer, Closing) {
    let (closer, closing) = watch::channel(false);
    (Closer(closer), Closing(closing))
}

impl Closer {
    /// Says it, once and for all.
    pub fn close(&self) {
        self.0.send_replace(true);
    }
}

impl Closing {
    /// Returns once the word is said, or nobody is left to say it. Cancel safe.
    pub async fn wait(&mut self) {
        // An error means that the one who would say it is gone, which says it all.
        drop(self.0.wait_for(|closing| *closing).await);
    }

    /// Whether it was said.
    pub fn is_closed(&self) -> bool {
        *self.0.borrow()
    }
}

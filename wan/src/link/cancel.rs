//! Ending something that runs elsewhere.

use std::sync::Arc;

use tokio::sync::watch;

/// A switch that is thrown once, from any thread, and seen by whoever waits for it.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<watch::Sender<bool>>);

impl Default for Cancel {
    fn default() -> Self {
        Cancel(Arc::new(watch::Sender::new(false)))
    }
}

impl Cancel {
    /// A switch that nobody has thrown.
    pub fn new() -> Self {
        Self::default()
    }

    /// Throws it.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Was it thrown?
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is.
    pub async fn cancelled(&self) {
        let mut switch = self.0.subscribe();
        // The sender lives in self, so waiting ends only with the switch.
        let _ = switch.wait_for(|thrown| *thrown).await;
    }
}

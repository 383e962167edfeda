//! Links of containers that have left: the kernel takes its time to remove them, and nobody has to wait for it but who
//! wants their addresses.

use crate::networks::Networks;
use crate::networks::member::Attached;

/// An endpoint whose link isn't gone yet.
pub struct Leaving {
    pub container: String,
    pub attached: Attached,
    /// Whether its link is being removed.
    going: bool,
}

impl Networks {
    /// Has the links of a container removed, in the background, together with those of others that leave meanwhile.
    pub(super) fn let_go(&self, container: &str, attached: Vec<Attached>) {
        let is_first = {
            let mut state = self.inner.state.lock();
            let is_first = state.leaving.is_empty();
            let linked = attached.into_iter().filter(|attached| !attached.link.is_empty());
            let leaving = linked.map(|attached| Leaving { container: container.into(), attached, going: false });
            state.leaving.extend(leaving);
            is_first && !state.leaving.is_empty()
        };
        if is_first {
            // It ends when there is nothing more to remove.
            tokio::spawn(self.clone().remove_links());
        }
    }

    async fn remove_links(self) {
        loop {
            let going: Vec<String> = {
                let mut state = self.inner.state.lock();
                state.leaving.iter_mut().for_each(|leaving| leaving.going = true);
                state.leaving.iter().map(|leaving| leaving.attached.id.clone()).collect()
            };
            if let Err(error) = self.inner.bridges.disconnect(&going).await {
                // A restart looks for what nobody names.
                tracing::warn!(%error, "links of containers that have left stay");
            }
            let is_empty = {
                let mut state = self.inner.state.lock();
                state.leaving.retain(|leaving| !leaving.going);
                state.leaving.is_empty()
            };
            self.inner.left.send_replace(());
            if is_empty {
                return;
            }
        }
    }

    /// Returns once none of these is leaving.
    pub(super) async fn gone(&self, which: impl Fn(&Leaving) -> bool) {
        let mut left = self.inner.left.subscribe();
        while self.inner.state.lock().leaving.iter().any(&which) {
            if left.changed().await.is_err() {
                return;
            }
        }
    }
}

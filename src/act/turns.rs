//! Room for calls that may block: shared among the namespaces, so that one with many runs keeps nobody else waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Calls that may block and are under way at once. They take tens of microseconds each unless a disk is sick; a
/// thousand runs that start together must not become a thousand threads.
const ALL: usize = 8;
/// Those of one namespace, as many as it holds of the start slots: three quarters. Of those that wait for room among
/// all, only so many of each namespace can be ahead.
const PER_NAMESPACE: usize = ALL / 4 * 3;

/// Gives out room.
#[derive(Debug)]
pub(crate) struct Turns {
    all: Semaphore,
    namespaces: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// Room for one call, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _of_namespace: Option<OwnedSemaphorePermit>,
    _of_all: Option<SemaphorePermit<'a>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Semaphore::new(ALL), namespaces: Mutex::default() }
    }
}

impl Turns {
    /// Waits for room: within the namespace first, so that those that wait there hold nobody else up.
    pub(crate) async fn take(&self, namespace: &str) -> Turn<'_> {
        // Neither is ever closed.
        let of_namespace = self.namespace(namespace).acquire_owned().await.ok();
        Turn { _of_namespace: of_namespace, _of_all: self.all.acquire().await.ok() }
    }

    /// Does what may block on a thread for that, in the turn of a namespace.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        namespace: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let _turn = self.take(namespace).await;
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is ending, and with it whoever waits here.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn namespace(&self, name: &str) -> Arc<Semaphore> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = namespaces.get(name).and_then(Weak::upgrade) {
            return room;
        }
        // Nobody of these waits or works: there are never more than have something under way.
        namespaces.retain(|_, room| room.strong_count() > 0);
        let room = Arc::new(Semaphore::new(PER_NAMESPACE));
        namespaces.insert(name.to_owned(), Arc::downgrade(&room));
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    /// What a future comes to if it need not wait.
    fn at_once<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_namespace_with_much_to_do_keeps_nobody_else_waiting() {
        let turns = Turns::default();
        let mut busy: Vec<_> = (0..500).map(|_| Box::pin(turns.take("busy"))).collect();
        let mut held: Vec<_> = busy.iter_mut().filter_map(|turn| at_once(turn.as_mut())).collect();
        assert_eq!(held.len(), PER_NAMESPACE);
        let calm: Vec<_> = (0..ALL - PER_NAMESPACE).filter_map(|_| at_once(pin!(turns.take("calm")))).collect();
        assert_eq!(calm.len(), ALL - PER_NAMESPACE);
        assert!(at_once(pin!(turns.take("third"))).is_none(), "there is an end to all of it");
        drop(held.pop());
        assert!(at_once(pin!(turns.take("third"))).is_some());
    }
}

//! Room for what takes a thread or a core: shared among the namespaces, so that one with many runs keeps nobody else
//! waiting.

use std::collections::HashMap;
use std::num::NonZero;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// So many for each core are under way at once. Fewer would leave cores idle while files are waited for; more would only
/// stand in each other's way.
const PER_CORE: usize = 4;
/// But at least so many, and at most: a thousand runs that start together must not become a thousand threads.
const BOUNDS: (usize, usize) = (8, 16);
/// One namespace has at most this part of the room, which is no more than a turn for each core from two cores on: what
/// another one has to do finds room, and a core for it soon.
const PART: usize = 4;

/// Gives out room.
#[derive(Debug)]
pub(crate) struct Turns {
    all: Semaphore,
    per_namespace: usize,
    namespaces: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// Room for one, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _of_namespace: Option<OwnedSemaphorePermit>,
    _of_all: Option<SemaphorePermit<'a>>,
}

impl Turn<'_> {
    /// Waits for the end of something, and keeps the room for so long at most.
    pub(crate) async fn lasts<T>(self, at_most: Duration, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        // Dropping a pinned reference drops no work.
        let done = tokio::time::timeout(at_most, &mut work).await;
        drop(self);
        match done {
            Ok(done) => done,
            Err(_) => work.await,
        }
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self::on(std::thread::available_parallelism().map_or(1, NonZero::get))
    }
}

impl Turns {
    /// On a machine with so many cores.
    fn on(cores: usize) -> Self {
        let all = (cores * PER_CORE).clamp(BOUNDS.0, BOUNDS.1);
        Self { all: Semaphore::new(all), per_namespace: all / PART, namespaces: Mutex::default() }
    }

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
        let room = Arc::new(Semaphore::new(self.per_namespace));
        namespaces.insert(name.to_owned(), Arc::downgrade(&room));
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
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
        for (cores, room) in [(1, 8), (2, 8), (3, 12), (64, 16)] {
            let turns = Turns::on(cores);
            let mut busy: Vec<_> = (0..500).map(|_| Box::pin(turns.take("busy"))).collect();
            let mut held: Vec<_> = busy.iter_mut().filter_map(|turn| at_once(turn.as_mut())).collect();
            assert_eq!(held.len(), room / PART);
            let names: Vec<_> = (0..room - held.len()).map(|n| format!("calm{n}")).collect();
            let calm: Vec<_> = names.iter().filter_map(|name| at_once(pin!(turns.take(name)))).collect();
            assert_eq!(calm.len(), names.len());
            assert!(at_once(pin!(turns.take("third"))).is_none(), "there is an end to all of it");
            drop(held.pop());
            assert!(at_once(pin!(turns.take("third"))).is_some());
        }
    }

    #[tokio::test]
    async fn what_never_ends_keeps_its_room_for_a_while_only() {
        let turns = Turns::on(1);
        let held = [turns.take("hung").await, turns.take("hung").await];
        let [first, _second] = held;
        let hung = first.lasts(Duration::from_millis(10), std::future::pending::<()>());
        let next = tokio::select! {
            // Cancel-safe: it never ends.
            () = hung => None,
            // Cancel-safe: whoever leaves a queue has not been served.
            next = turns.take("hung") => Some(next),
        };
        assert!(next.is_some());
    }
}

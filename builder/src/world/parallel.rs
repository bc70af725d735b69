//! One function over many values, on several threads.

use std::iter;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

/// As many threads as this machine runs at once.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(2, NonZeroUsize::get)
}

/// Applies `f` to every item on at most `threads` threads; the results come in the order of the items.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], threads: usize, f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    map_then(items, threads, f, || ()).0
}

/// As [`map`]; the first thread that finds no item left does `last`, while others are still at theirs.
pub(crate) fn map_then<T: Sync, R: Send, L: Send>(
    items: &[T],
    threads: usize,
    f: impl Fn(&T) -> R + Sync,
    last: impl FnOnce() -> L + Send,
) -> (Vec<R>, L) {
    let (next, last) = (AtomicUsize::new(0), Mutex::new(Some(last)));
    let work = || {
        let one = || {
            let index = next.fetch_add(1, Ordering::Relaxed);
            Some((index, f(items.get(index)?)))
        };
        let mine: Vec<_> = iter::from_fn(one).collect();
        let last = last.lock().expect("no holder of the lock panics").take();
        (mine, last.map(|last| last()))
    };
    let threads = 0..threads.clamp(1, items.len().max(1));
    let done = thread::scope(|scope| {
        let threads: Vec<_> = threads.map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(join).collect::<Vec<_>>()
    });
    let (results, last): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    let mut results: Vec<_> = results.into_iter().flatten().collect();
    results.sort_by_key(|(index, _)| *index);
    let last = last.into_iter().flatten().next();
    (
        results.into_iter().map(|(_, result)| result).collect(),
        last.expect("some thread was the first"),
    )
}

/// Returns what a thread returned; where it panicked, this one does.
pub(crate) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_and_the_last_is_done_once() {
        let calls = AtomicUsize::new(0);
        for (items, threads) in [(0, 4), (1, 4), (9, 1), (9, 4)] {
            let items: Vec<usize> = (0..items).collect();
            let last = || calls.fetch_add(1, Ordering::Relaxed);
            let before = calls.load(Ordering::Relaxed);
            assert_eq!(map_then(&items, threads, |item| *item, last), (items.clone(), before));
        }
        assert_eq!(calls.into_inner(), 4);
    }

    #[test]
    fn the_last_is_done_while_another_thread_is_still_at_an_item() {
        let both = Barrier::new(2);
        map_then(&[true, false], 2, |waits| waits.then(|| both.wait()), || both.wait());
    }
}

//! One function over many values, on all cores or on threads that wait for others.
//!
//! What is on all cores may be nested, and beside other such work: there are never more threads than cores.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

pub(crate) use rayon::join as both;

/// As many threads as this machine runs at once.
fn cores() -> usize {
    thread::available_parallelism().map_or(2, NonZeroUsize::get)
}

/// Applies `f` to every item, on all cores, the first items first; the results come in the order of the items.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let work = Work::new(items);
    rayon::scope(|scope| {
        for _ in 0..cores().min(items.len()) {
            scope.spawn(|_| work.apply(&f));
        }
    });
    work.results()
}

/// As [`map`], on `threads` threads that are not to be counted: they wait for the network most of the time.
pub(crate) fn map_waiting<T: Sync, R: Send>(items: &[T], threads: usize, f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let work = Work::new(items);
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| work.apply(&f));
        }
    });
    work.results()
}

/// Returns what a thread returned; where it panicked, this one does.
pub(crate) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Items of which each thread takes the next, and what came of those that were taken.
struct Work<'a, T, R> {
    items: &'a [T],
    next: AtomicUsize,
    results: Mutex<Vec<(usize, R)>>,
}

impl<'a, T, R> Work<'a, T, R> {
    fn new(items: &'a [T]) -> Self {
        Self {
            items,
            next: AtomicUsize::new(0),
            results: Mutex::new(Vec::with_capacity(items.len())),
        }
    }

    fn apply(&self, f: impl Fn(&T) -> R) {
        while let Some((index, item)) = self.take() {
            let result = f(item);
            let mut results = self.results.lock().expect("no holder of the lock panics");
            results.push((index, result));
        }
    }

    fn take(&self) -> Option<(usize, &'a T)> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        self.items.get(index).map(|item| (index, item))
    }

    fn results(self) -> Vec<R> {
        let mut results = self.results.into_inner().expect("no holder of the lock panics");
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_however_work_is_nested() {
        let items: Vec<usize> = (0..99).collect();
        let nested = |item: &usize| map(&items, |other| item * other).iter().sum::<usize>();
        let wanted: Vec<usize> = items.iter().map(|item| item * 4851).collect();
        assert_eq!(map(&items, nested), wanted);
        for threads in [0, 1, 7, 200] {
            assert_eq!(map_waiting(&items, threads, nested), wanted);
        }
        assert_eq!(
            both(|| map(&items, nested), || map(&[0; 0], nested)),
            (wanted, Vec::new())
        );
    }
}

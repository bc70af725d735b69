//! What a download shows on stderr: bars on a terminal, one line at the end. What takes long says so now and then.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// How often it is said how far something is.
const PACE: Duration = Duration::from_secs(60);

/// Counts what is done of something that may take seconds or hours.
pub(crate) struct Count {
    start: Instant,
    said: Instant,
    done: usize,
}

impl Default for Count {
    fn default() -> Self {
        let start = Instant::now();
        Self {
            start,
            said: start,
            done: 0,
        }
    }
}

impl Count {
    /// One more is done. Returns how many are, and after how many minutes: at most once a minute.
    pub(crate) fn add(&mut self) -> Option<(usize, u64)> {
        self.done += 1;
        if self.said.elapsed() < PACE {
            return None;
        }
        self.said = Instant::now();
        Some((self.done, self.start.elapsed().as_secs() / 60))
    }
}

/// The progress of one list of downloads.
pub(super) struct Progress {
    bar: ProgressBar,
    start: Instant,
    files: usize,
}

impl Progress {
    /// Of files with these sizes, in bytes.
    pub(super) fn new(sizes: &[u64]) -> Self {
        let bytes = sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size)); // others say how large they are
        const TEMPLATE: &str = "fetch {bar:32} {bytes}/{total_bytes} {binary_bytes_per_sec} {wide_msg}";
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template names known keys");
        let bar = ProgressBar::new(bytes).with_style(style); // hidden by itself where stderr is no terminal
        Self {
            bar,
            start: Instant::now(),
            files: sizes.len(),
        }
    }

    /// Says what is being fetched now.
    pub(super) fn name(&self, path: &str) {
        self.bar.set_message(path.rsplit('/').next().unwrap_or(path).to_owned());
    }

    pub(super) fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Takes back bytes that were thrown away.
    pub(super) fn take_back(&self, bytes: u64) {
        self.bar.dec(bytes);
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Says in one line what was fetched.
    pub(super) fn report(&self) {
        let (files, bytes) = (self.files, HumanBytes(self.bar.position()));
        let seconds = self.start.elapsed().as_secs_f64();
        let noun = if files == 1 { "file" } else { "files" };
        eprintln!("fetched {files} {noun}, {bytes} in {seconds:.1} s");
    }
}

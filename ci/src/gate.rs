//! `cargo ci`: all checks in a row, with a line for each and one for all.

use std::time::Instant;

use anyhow::{Result, ensure};
use xshell::{Shell, cmd};

use crate::site::Site;
use crate::{
    boot, bootstrap, closed, compile, flip, fuzz, host, near, offline, oracle, rebuild, reproduce, truth, volumes,
};

/// What became of the checks so far.
#[derive(Default)]
struct Gate {
    lines: Vec<String>,
    passed: usize,
    failed: usize,
}

pub(crate) fn run() -> Result<()> {
    let shell = host::shell()?;
    let mut gate = Gate::default();
    gate.code(&shell);
    gate.image()?;
    gate.end()
}

impl Gate {
    /// What needs only the repository.
    fn code(&mut self, shell: &Shell) {
        self.step("format", || Ok(cmd!(shell, "cargo fmt --all --check").run()?));
        self.step("clippy", || {
            let clippy = cmd!(
                shell,
                "cargo clippy --quiet --workspace --all-targets --release -- --deny warnings"
            );
            Ok(clippy.run()?)
        });
        self.step("fuzz targets", || fuzz::check(shell));
        if host::has(shell, "cargo-deny") {
            let deny = || {
                cmd!(
                    shell,
                    "cargo deny --workspace --config ci/deny.toml check --hide-inclusion-graph licenses bans sources"
                )
            };
            self.step("dependencies", || Ok(deny().run()?));
        } else {
            self.skip(
                "dependencies",
                "cargo-deny is not installed: cargo install --locked cargo-deny",
            );
        }
        self.step("tests", || {
            Ok(cmd!(shell, "cargo test --quiet --workspace --release").run()?)
        });
        self.step("documentation", || {
            let doc = cmd!(shell, "cargo doc --quiet --workspace --release --no-deps");
            Ok(doc.env("RUSTDOCFLAGS", "--deny warnings").run()?)
        });
    }

    /// What needs releases: they are built from a lock made here and now, so that no archive has to keep old packages.
    fn image(&mut self) -> Result<()> {
        // Where tests are built, features of crates differ: cargo would build everything again for a begat without tests.
        let site = Site::with(&host::target()?.join("begat"))?;
        let release = site.path("first");
        self.step("lock", || site.lock());
        self.step("build", || site.build(&reproduce::CONDITIONS[0], &release));
        self.step("reproduce", || reproduce::another(&site, &release));
        self.step("offline", || offline::check(&site, &release));
        let evidence = site.path("evidence");
        self.step("boot", || boot::check(&site.begat, &release, &evidence, &boot::ROOT));
        self.step("flip", || flip::check(&site.begat, &release, Some(&evidence)));
        self.step("rebuild", || rebuild::check(&site, &release));
        self.step("closed", || closed::check(&site));
        self.step("volumes", || volumes::check(&site.begat));
        self.step("compile", || compile::check(&site.begat));
        self.step("bootstrap", || bootstrap::check(&site));
        self.step("near", || near::check(&site.begat, &release));
        self.step("truth", || truth::check(&site.begat, &release));
        self.step("oracle snp", || oracle::snp::compare_release(&release));
        self.step("oracle image", || oracle::image::check(&release));
        self.step("oracle sbom", || oracle::sbom::check(&release));
        self.step("oracle signatures", || oracle::signatures::quick(&site.begat, &release));
        self.step("oracle registry", || oracle::registry::check(&site.begat, &release));
        Ok(())
    }

    fn step(&mut self, name: &str, check: impl FnOnce() -> Result<()>) {
        println!("== {name}");
        let start = Instant::now();
        let result = check();
        let seconds = start.elapsed().as_secs();
        let word = match result {
            Ok(()) => {
                self.passed += 1;
                "passed"
            }
            Err(error) => {
                self.failed += 1;
                eprintln!("error: {name}: {error:#}");
                "FAILED"
            }
        };
        self.say(format!("{word}  {seconds:4} s  {name}"));
    }

    fn skip(&mut self, name: &str, reason: &str) {
        self.say(format!("skipped          {name}: {reason}"));
    }

    fn say(&mut self, line: String) {
        println!("{line}");
        self.lines.push(line);
    }

    fn end(self) -> Result<()> {
        println!("\n{}\n", self.lines.join("\n"));
        println!("{} passed, {} failed", self.passed, self.failed);
        ensure!(self.failed == 0, "{} of the checks failed", self.failed);
        Ok(())
    }
}

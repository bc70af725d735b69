//! Every check that CI runs, in the order it runs them: `cargo ci`.

use anyhow::Result;
use xshell::{Shell, cmd};

fn main() -> Result<()> {
    let shell = Shell::new()?;
    cmd!(shell, "cargo fmt --all --check").run()?;
    cmd!(shell, "cargo clippy --workspace --all-targets -- --deny warnings").run()?;
    cmd!(shell, "cargo test --workspace").run()?;
    Ok(())
}

//! One file per verb: flags and printing.

mod attest;
mod boot;
mod build;
mod chain;
mod collateral;
mod doctor;
mod evidence;
mod explain;
mod export;
mod inside;
mod inspect;
mod itself;
mod job;
mod judging;
mod lock;
mod log;
mod measure;
mod pull;
mod push;
mod rebuild;
mod sbom;
mod sign;
mod signing;
mod supply;
mod tee;
mod verify;

use anyhow::Result;

/// Builds guest images of confidential VMs: reproducible, measured before the first boot.
#[derive(clap::Parser)]
#[command(name = "begat", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Lock(lock::Args),
    Build(build::Args),
    Measure(Box<measure::Measure>),
    Sign(sign::Args),
    Verify(verify::Args),
    Chain(chain::Args),
    #[command(subcommand)]
    Evidence(evidence::Command),
    Rebuild(rebuild::Args),
    Inspect(inspect::Args),
    #[command(subcommand)]
    Sbom(sbom::Sbom),
    Explain(explain::Args),
    Export(export::Args),
    #[command(subcommand)]
    Log(log::Log),
    Boot(boot::Args),
    Job(job::Args),
    Attest(attest::Args),
    Collateral(collateral::Args),
    Push(push::Args),
    Pull(pull::Args),
    Doctor(doctor::Args),
    #[command(name = "self")]
    Itself(itself::Args),
    #[command(hide = true)]
    Inside(inside::Args),
}

impl Cli {
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Lock(lock) => lock.run(),
            Command::Build(build) => build.run(),
            Command::Measure(measure) => measure.run(),
            Command::Sign(sign) => sign.run(),
            Command::Verify(verify) => verify.run(),
            Command::Chain(chain) => chain.run(),
            Command::Evidence(evidence) => evidence.run(),
            Command::Rebuild(rebuild) => rebuild.run(),
            Command::Inspect(inspect) => inspect.run(),
            Command::Sbom(sbom) => sbom.run(),
            Command::Explain(explain) => explain.run(),
            Command::Export(export) => export.run(),
            Command::Log(log) => log.run(),
            Command::Boot(boot) => boot.run(),
            Command::Job(job) => job.run(),
            Command::Attest(attest) => attest.run(),
            Command::Collateral(collateral) => collateral.run(),
            Command::Push(push) => push.run(),
            Command::Pull(pull) => pull.run(),
            Command::Doctor(doctor) => doctor.run(),
            Command::Itself(itself) => itself.run(),
            Command::Inside(inside) => inside.run(),
        }
    }
}

/// The words that the files of a release have for these values.
fn words(values: impl IntoIterator<Item = impl serde::Serialize>) -> String {
    let words = values
        .into_iter()
        .map(|value| serde_json::json!(value).as_str().unwrap_or_default().replace('-', " "));
    words.collect::<Vec<_>>().join(", ")
}

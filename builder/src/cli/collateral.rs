//! `begat collateral`: what does evidence lack to be verified offline?

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use measure::evidence::Evidence;

use crate::mend::{Exit, OrMend as _};
use crate::model::json;
use crate::stage::collateral::Services;
use crate::stage::say;
use crate::world::vendor::Vendors;
use crate::world::{Environment, given};

/// Fetches what evidence lacks to be verified offline, and adds it to the file
///
/// Of SEV-SNP: the certificate of the VCEK, those above it, and the list of what is revoked, from AMD. Of TDX: the
/// collateral of the quote, from Intel. Nothing that comes is believed: `begat verify` judges it.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Evidence, as `begat attest` writes it
    evidence: PathBuf,
    /// A cache of AMD's Key Distribution Service
    #[arg(long, value_name = "URL")]
    kds: Option<String>,
    /// A Provisioning Certificate Caching Service (PCCS) instead of Intel's service
    #[arg(long, value_name = "URL")]
    pccs: Option<String>,
    /// Fetch nothing: say which URLs would be fetched
    #[arg(long)]
    offline: bool,
}

/// In bytes: a quote, an event log and collateral, as text.
const LIMIT: u64 = 32 << 20;

/// For how long a service may send nothing, and how long begat waits before it asks again.
const STALL: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(5);

impl Args {
    pub(super) fn run(self) -> Result<()> {
        const MEND: &str = "give what begat attest has written";
        let bytes = given::read(&self.evidence, LIMIT, MEND)?;
        let problem = format!("cannot read the evidence in {}", self.evidence.display());
        let mut evidence: Evidence = serde_json::from_slice(&bytes).or_mend(Exit::Usage, problem, MEND)?;
        let services = self.services();
        let missing = services.missing(&evidence)?;
        if missing.is_empty() {
            say("fetch", "nothing is missing that somebody gives away");
            return Ok(());
        }
        if self.offline {
            let problem = format!("these are missing, and the network is off:\n  {}", missing.join("\n  "));
            return Err(Exit::Outside.because(problem, "run it once without --offline"));
        }
        let proxies = Environment::of_this_process().proxies;
        let vendors = Vendors::new(proxies, STALL, PAUSE);
        services.complete(&mut evidence, &|url| {
            say("fetch", url);
            vendors.get(url)
        })?;
        given::write(&self.evidence, json(&evidence))
    }

    fn services(&self) -> Services {
        let mut services = Services::default();
        if let Some(url) = &self.kds {
            services.from_kds(url);
        }
        if let Some(url) = &self.pccs {
            services.from_pccs(url);
        }
        services
    }
}

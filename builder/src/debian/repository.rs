//! A package repository for apt: the text of its indexes. Debian Policy 5, and the wiki page RepositoryFormat.

use measure::Sha256;

/// Returns the entry of a package in `Packages`: its control file and where the package is.
pub fn entry(control: &str, path: &str, size: u64, sha256: &Sha256) -> String {
    format!(
        "{}\nFilename: {path}\nSize: {size}\nSHA256: {sha256}\n\n",
        control.trim_end()
    )
}

/// Returns the `Release` file of a suite with the component `main` alone.
pub fn release(suite: &str, packages: &str) -> String {
    let (sha256, size) = (Sha256::of(packages), packages.len());
    format!(
        "Suite: {suite}\nCodename: {suite}\nComponents: main\nArchitectures: amd64\n\
         SHA256:\n {sha256} {size} main/binary-amd64/Packages\n"
    )
}

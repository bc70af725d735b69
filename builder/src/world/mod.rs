//! The only effects: programs, virtual machines, namespaces, the network, the store, the clock, the environment.

pub mod clock;
pub mod credentials;
mod download;
pub mod environment;
pub mod files;
pub mod given;
pub mod graft;
mod http;
pub mod mirror;
pub mod net;
pub(crate) mod parallel;
mod partial;
mod payload;
pub mod program;
mod progress;
pub mod qmp;
pub mod qtest;
pub mod random;
pub mod registry;
pub mod room;
pub mod sandbox;
pub mod scratch;
pub mod store;
pub mod swtpm;
pub mod tee;
pub mod tidy;
pub mod tree;
pub mod unpack;
pub mod vendor;
pub mod workspace;

pub use environment::Environment;
pub use mirror::Mirrors;
pub use net::Net;
pub use store::Store;

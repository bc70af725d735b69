//! The only effects: files of the store, the network, the environment.

pub mod environment;
pub mod mirror;
pub mod net;
pub mod store;
pub mod tree;
pub mod unpack;

mod http;
mod parallel;
mod partial;
mod progress;

pub use environment::Environment;
pub use mirror::Mirrors;
pub use net::Net;
pub use store::Store;

//! The only effects: programs, namespaces, the network, the store.

pub mod program;
pub mod sandbox;

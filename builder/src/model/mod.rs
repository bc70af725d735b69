//! Values, their text form and their laws. Nothing here touches a file, a clock or the network.

pub mod artifacts;
pub mod lock;
pub mod recipe;

pub use lock::Lock;
pub use recipe::Recipe;

//! What people and programs see: text ([`text`]), the metrics page ([`metrics`], [`http`]). Nothing here reads maps;
//! everything comes through a [`View`].

pub mod http;
pub mod metrics;
pub mod text;
pub mod view;

pub use view::View;

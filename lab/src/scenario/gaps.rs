//! Raw peers that lose their place.

use super::Scenario;

pub const SCENARIOS: &[Scenario] = &[];

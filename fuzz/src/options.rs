//! Any bytes as TCP options, all lengths that a header can claim, cut anywhere.

use monitor_common::options;
use monitor_common::segment::Segment;

/// Bytes before the options, as the walk may look at the byte before an option.
const BEFORE: usize = 20;
/// Data offset 15 less the fixed header (RFC 9293 section 3.1).
const LONGEST: usize = 40;

pub fn run(data: &[u8]) {
    let Some((claimed, rest)) = data.split_first() else { return };
    let len = usize::from(*claimed) % (LONGEST + 1);
    let mut bytes = vec![0; BEFORE];
    bytes.extend_from_slice(&rest[..rest.len().min(LONGEST)]);
    let mut whole = Segment::default();
    options::parse(&bytes[..], BEFORE, len, &mut whole);
    super::frame::options(&whole);
    // A header that claims no more than is there cannot run past it.
    if len == 0 {
        assert_eq!(whole, Segment::default());
    }
}

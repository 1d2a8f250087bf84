//! How a connection ended early, seen from the client's packets alone (DIAGNOSIS 4.3, after the SIGCOMM 2023 study of
//! tampering). Scanners, happy-eyeballs losers and impatient clients have the same shapes: context, never proof.

use super::scene::Scene;
use monitor_common::recorder::Record;
use monitor_common::segment::flags;

/// Packets of the client that count as early.
const EARLY: u32 = 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Syn,
    Ack,
    FirstData,
    Data,
}

pub fn of(s: &Scene) -> Option<&'static str> {
    if !s.history.is_client(s.sender) || s.history.mid_stream() || s.me.segments > EARLY {
        return None;
    }
    let own: Vec<&Record> = s.before(s.sender).collect();
    let data = own.iter().filter(|r| r.payload_len > 0).count();
    let stage = match data {
        _ if own.iter().all(|r| r.flags & flags::ACK == 0) => Stage::Syn,
        0 => Stage::Ack,
        1 => Stage::FirstData,
        _ => Stage::Data,
    };
    let resets = s.resets();
    let (with_ack, alone): (Vec<_>, Vec<_>) = resets.iter().partition(|r| r.flags & flags::ACK != 0);
    Some(name(stage, &with_ack, &alone))
}

fn name(stage: Stage, with_ack: &[&Record], alone: &[&Record]) -> &'static str {
    match (stage, with_ack.len(), alone.len()) {
        (Stage::Syn, 0, _) => "syn_then_rst",
        (Stage::Syn, _, 0) => "syn_then_rstack",
        (Stage::Syn, ..) => "syn_then_rst_and_rstack",
        (Stage::Ack, 0, 1) => "ack_then_one_rst",
        (Stage::Ack, 0, _) => "ack_then_many_rst",
        (Stage::Ack, 1, _) => "ack_then_one_rstack",
        (Stage::Ack, ..) => "ack_then_many_rstack",
        (Stage::FirstData, 0, 1) => "psh_then_one_rst",
        (Stage::FirstData, 1, 0) => "psh_then_one_rstack",
        (Stage::FirstData, _, 0) => "psh_then_many_rstack",
        (Stage::FirstData, 0, _) => several(alone),
        (Stage::FirstData, ..) => "psh_then_rst_and_rstack",
        (Stage::Data, 0, _) => "data_then_rst",
        (Stage::Data, ..) => "data_then_rstack",
    }
}

/// Several RSTs without ACK, by the acknowledgement field that they carry all the same.
fn several(alone: &[&Record]) -> &'static str {
    let zeros = alone.iter().filter(|r| r.ack.0 == 0).count();
    if zeros == 1 {
        "psh_then_rsts_one_zero_ack"
    } else if alone.iter().all(|r| r.ack == alone[0].ack) {
        "psh_then_rsts_same_ack"
    } else {
        "psh_then_rsts_diff_ack"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_common::seq::SeqNum;

    fn rst(with_ack: bool, ack: u32) -> Record {
        let flags = if with_ack { flags::RST | flags::ACK } else { flags::RST };
        Record { flags, ack: SeqNum(ack), ..Record::default() }
    }

    fn shape(stage: Stage, resets: &[Record]) -> &'static str {
        let (with_ack, alone): (Vec<_>, Vec<_>) = resets.iter().partition(|r| r.flags & flags::ACK != 0);
        name(stage, &with_ack, &alone)
    }

    #[test]
    fn every_shape_has_its_name() {
        assert_eq!(shape(Stage::Syn, &[rst(false, 0)]), "syn_then_rst");
        assert_eq!(shape(Stage::Syn, &[rst(true, 5), rst(false, 0)]), "syn_then_rst_and_rstack");
        assert_eq!(shape(Stage::Ack, &[rst(false, 0), rst(false, 0)]), "ack_then_many_rst");
        assert_eq!(shape(Stage::Ack, &[rst(true, 1)]), "ack_then_one_rstack");
        assert_eq!(shape(Stage::FirstData, &[rst(false, 7), rst(false, 7)]), "psh_then_rsts_same_ack");
        assert_eq!(shape(Stage::FirstData, &[rst(false, 7), rst(false, 8)]), "psh_then_rsts_diff_ack");
        assert_eq!(shape(Stage::FirstData, &[rst(false, 7), rst(false, 0)]), "psh_then_rsts_one_zero_ack");
        assert_eq!(shape(Stage::FirstData, &[rst(true, 7), rst(true, 8)]), "psh_then_many_rstack");
        assert_eq!(shape(Stage::FirstData, &[rst(true, 7), rst(false, 8)]), "psh_then_rst_and_rstack");
        assert_eq!(shape(Stage::Data, &[rst(true, 7)]), "data_then_rstack");
    }
}

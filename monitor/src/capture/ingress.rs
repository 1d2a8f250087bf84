//! Which hook takes what comes in, by what it costs the host.
//!
//! Native XDP is the cheapest, but some devices must give offloads up for it. With a program on one end of a veth, the
//! kernel takes segmentation offload from the other: packets of 1,500 bytes instead of 64 KiB, and a seventh of the
//! throughput. A hook behind the driver (TC ingress) sees what the stack sees and costs next to nothing there.

use super::device::Device;
use super::interfaces::Interface;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressMode {
    /// What costs the host least.
    Auto,
    /// XDP in the driver, or fail.
    Native,
    /// XDP behind the driver.
    Generic,
    /// Traffic control: tcx, or a clsact filter before Linux 6.6.
    Tc,
}

/// A hook to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Native,
    Generic,
    Tc,
}

impl Way {
    pub const fn name(self) -> &'static str {
        match self {
            Way::Native => "native XDP",
            Way::Generic => "generic XDP",
            Way::Tc => "TC ingress",
        }
    }
}

/// Hooks in the order in which they are tried, and why the first is not native XDP, where that was the user's to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub ways: &'static [Way],
    pub why: Option<String>,
}

/// `ports` are the devices below a bond, whose driver passes XDP on to them.
pub fn choose(mode: IngressMode, i: &Interface, device: &Device, ports: &[Device]) -> Choice {
    let only = |ways| Choice { ways, why: None };
    let tc = |why: String| Choice { ways: &[Way::Tc, Way::Generic], why: Some(why) };
    match mode {
        IngressMode::Native => only(&[Way::Native]),
        IngressMode::Generic => only(&[Way::Generic]),
        IngressMode::Tc => only(&[Way::Tc]),
        IngressMode::Auto => {
            if let Some(id) = i.xdp_program {
                let why =
                    format!("TC ingress, behind XDP program {id}, which is another's: only what it passes is seen");
                return Choice { ways: &[Way::Tc], why: Some(why) };
            }
            // Asking a driver that has no XDP would only make noise.
            if i.loopback {
                return tc("TC ingress: its driver has no XDP".into());
            }
            // Bridges and others have no XDP to pass on.
            let ports = if device.driver.as_deref() == Some("bonding") { ports } else { &[] };
            match harm(device).or_else(|| ports.iter().find_map(harm)) {
                Some(harm) => tc(format!("TC ingress: native XDP {harm}")),
                None => only(&[Way::Native, Way::Tc, Way::Generic]),
            }
        }
    }
}

/// What native XDP takes from the device.
fn harm(device: &Device) -> Option<String> {
    match device.driver.as_deref() {
        // veth_xdp_set in drivers/net/veth.c takes NETIF_F_GSO_SOFTWARE from the peer.
        Some("veth") => return Some("on a veth takes segmentation offload from its peer".into()),
        // tun_build_skb in drivers/net/tun.c leaves packets with offloads to generic XDP, which copies them.
        Some("tun") => return Some("on a tap device copies every packet that is offloaded".into()),
        _ => {}
    }
    // Drivers switch it off (virtio_net, bnxt_en) or refuse XDP (mlx5, hv_netvsc): merged packets do not fit its buffers.
    let offload = device.receive_offload.as_ref()?;
    Some(format!("would switch receive offload ({offload}) off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface() -> Interface {
        Interface {
            index: 2,
            name: "eth0".into(),
            up: true,
            loopback: false,
            ethernet: true,
            controller: None,
            xdp_program: None,
        }
    }

    fn device(driver: &str, offload: Option<&str>) -> Device {
        Device { driver: Some(driver.into()), receive_offload: offload.map(Into::into) }
    }

    fn auto(i: &Interface, d: &Device, ports: &[Device]) -> Choice {
        choose(IngressMode::Auto, i, d, ports)
    }

    #[test]
    fn a_driver_that_loses_nothing_gets_native_xdp() {
        for d in [device("mlx5_core", None), device("virtio_net", None), Device::default()] {
            let choice = auto(&interface(), &d, &[]);
            assert_eq!(choice, Choice { ways: &[Way::Native, Way::Tc, Way::Generic], why: None });
        }
    }

    #[test]
    fn where_native_xdp_costs_offloads_tc_is_first_and_says_why() {
        let bonded = [device("mlx5_core", None), device("mlx5_core", Some("rx-lro"))];
        for (d, ports, word) in [
            (device("veth", None), &[][..], "segmentation offload"),
            (device("tun", None), &[], "tap"),
            (device("virtio_net", Some("rx-gro-hw")), &[], "rx-gro-hw"),
            (device("bonding", None), &bonded, "rx-lro"),
        ] {
            let choice = auto(&interface(), &d, ports);
            assert_eq!(choice.ways, [Way::Tc, Way::Generic], "{d:?}");
            assert!(choice.why.as_ref().is_some_and(|w| w.contains(word)), "{choice:?}");
        }
        let bridge = auto(&interface(), &device("bridge", None), &bonded);
        assert_eq!(bridge.ways[0], Way::Native, "it is refused there, and says so");
        let lo = Interface { loopback: true, ..interface() };
        assert_eq!(auto(&lo, &Device::default(), &[]).ways[0], Way::Tc);
    }

    /// Another's program is never replaced; TC is behind it.
    #[test]
    fn beside_a_foreign_program_only_tc_is_tried() {
        let i = Interface { xdp_program: Some(17), ..interface() };
        let choice = auto(&i, &device("mlx5_core", None), &[]);
        assert_eq!(choice.ways, [Way::Tc]);
        assert!(choice.why.unwrap().contains("17"));
    }

    #[test]
    fn what_was_asked_for_by_name_is_tried_alone() {
        for (mode, way) in
            [(IngressMode::Native, Way::Native), (IngressMode::Generic, Way::Generic), (IngressMode::Tc, Way::Tc)]
        {
            let choice = choose(mode, &interface(), &device("veth", None), &[]);
            assert_eq!((choice.ways, choice.why), (&[way][..], None));
        }
    }
}

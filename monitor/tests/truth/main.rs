//! The tracker and the verdicts against other people's tools, and against themselves under changes that must not
//! matter. `docs/verification.md` tells what is compared, and every class of difference with its reason.

mod controls;
mod datagram;
mod files;
mod metamorphic;
mod reading;
mod tshark;
mod verdicts;
mod views;
mod wire;

/// What the model of `monitor-common`'s tests needs of its surroundings.
mod support {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Who {
        A,
        B,
    }

    impl Who {
        pub fn other(self) -> Who {
            match self {
                Who::A => Who::B,
                Who::B => Who::A,
            }
        }
    }
}

#[path = "../../../monitor-common/tests/support/model.rs"]
mod model;

mod generate;

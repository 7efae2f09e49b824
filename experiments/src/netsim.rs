//! What a network adds to a measured step: a virtual clock over recorded bytes, rounds and compute times.
//!
//! Nothing is slowed down to measure it. A step that took `t` seconds on the loopback interface, moved `u` bytes up and
//! `d` down and waited for its peer `k` times is given `t + 8 (u + d) / bandwidth + k rtt`. The two
//! directions of a link are taken one after the other and nothing overlaps with computation: an upper
//! estimate, the same for every engine, and labelled as computed wherever it is printed.
//!
//! ```
//! use sphinx_experiments::netsim::{LAN, WAN};
//!
//! assert_eq!(LAN.seconds(1.0, 0, 0), 1.0);
//! // 12.5 MB and two rounds over 100 Mbit/s and 40 ms
//! assert!((WAN.seconds(0.0, 12_500_000, 2) - 1.08).abs() < 1e-12);
//! ```

/// A link between the parties.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Its name, with its figures.
    pub name: &'static str,
    /// Bits per second, each way.
    pub bits_per_second: f64,
    /// Seconds of one round trip.
    pub round_trip: f64,
}

/// 10 Gbit/s and 0.1 ms.
pub const LAN: Profile = Profile {
    name: "LAN (10 Gbit/s, 0.1 ms)",
    bits_per_second: 10e9,
    round_trip: 1e-4,
};

/// 100 Mbit/s and 40 ms.
pub const WAN: Profile = Profile {
    name: "WAN (100 Mbit/s, 40 ms)",
    bits_per_second: 100e6,
    round_trip: 0.04,
};

/// Both.
pub const PROFILES: [Profile; 2] = [LAN, WAN];

impl Profile {
    /// Seconds of work that took `compute` seconds on the loopback interface.
    #[must_use]
    pub fn seconds(&self, compute: f64, bytes: u64, rounds: u64) -> f64 {
        compute + 8.0 * bytes as f64 / self.bits_per_second + rounds as f64 * self.round_trip
    }
}

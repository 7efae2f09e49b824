//! Laws of the odometer, and its failure probability observed.

use proptest::prelude::*;
use rand::{Rng, RngExt};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::accountant::Accountant;
use crate::quantity::{NoiseMultiplier, SamplingRate};
use crate::rdp::RdpAccountant;

fn step(q: f64, z: f64) -> DpEvent {
    let z = NoiseMultiplier::new(z).unwrap();
    DpEvent::poisson_gaussian(SamplingRate::new(q).unwrap(), z)
}

fn odometer(delta: f64) -> Odometer {
    Odometer::new(Adjacency::AddRemove, Delta::new(delta).unwrap())
}

#[test]
fn nothing_and_unprotected() {
    let mut all = odometer(1e-5);
    assert_eq!(all.spent(), 0.0);
    assert_eq!(all.charge(&DpEvent::NoOp, 3).unwrap(), 0.0);
    let cut = DpEvent::gaussian(NoiseMultiplier::new(1.0).unwrap()).poisson_truncated(
        SamplingRate::new(0.1).unwrap(),
        110,
        1000,
    );
    let before = all.clone();
    assert_eq!(all.charge(&cut, 1).unwrap_err().reason, Reason::Distance);
    assert_eq!(all, before);
    assert_eq!(all.charge(&DpEvent::NonPrivate, 1).unwrap(), f64::INFINITY);
    assert_eq!(Odometer::restore(&all.save()).unwrap(), all);
}

#[test]
fn a_changed_state_is_refused() {
    let mut all = odometer(1e-5);
    let events = [step(0.01, 1.0), step(0.02, 1.5)];
    for event in &events {
        all.charge(event, 1).unwrap();
    }
    all.agrees_with(&events).unwrap();
    assert!(all.agrees_with(&events[..1]).is_err());
    assert!(all.agrees_with(events.iter().rev()).is_err());
    let state = all.save();
    assert_eq!(Odometer::restore(&state).unwrap(), all);
    let mut cheaper = state.clone();
    cheaper.sums[3] = 0;
    assert_eq!(Odometer::restore(&cheaper), Err(OdometerError::Damaged));
    let mut fewer = state.clone();
    fewer.sums.pop();
    fewer.digest = fewer.digest_of();
    assert_eq!(
        Odometer::restore(&fewer),
        Err(OdometerError::Sums { found: 15 })
    );
    let mut other = state;
    other.version = 7;
    assert_eq!(
        Odometer::restore(&other),
        Err(OdometerError::Version { found: 7 })
    );
}

/// Gaussian releases whose noise depends on the loss so far; the loss is followed, and the run is caught
/// at the worst time. At a delta that can be seen, it is above the odometer no more often than that.
#[test]
fn the_loss_stays_below_at_all_times() {
    let delta = 0.05;
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let normal = |rng: &mut ChaCha20Rng| -> f64 {
        let (u, v): (f64, f64) = (rng.random(), rng.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let (mut above, mut fixed) = (0, 0);
    let runs = 2000;
    for _ in 0..runs {
        let mut meter = odometer(delta);
        let (mut loss, mut worst, mut last) = (0.0, false, false);
        for _ in 0..25 {
            // More noise once things went badly for privacy.
            let z: f64 = if loss > 0.5 { 6.0 } else { 2.5 };
            let spent = meter
                .charge(&DpEvent::gaussian(NoiseMultiplier::new(z).unwrap()), 1)
                .unwrap();
            loss += (normal(&mut rng) + 0.5 / z) / z;
            worst |= loss > spent;
            // Half as much would be exceeded far too often: the test can fail.
            last |= loss > 0.5 * spent;
        }
        above += i32::from(worst);
        fixed += i32::from(last);
    }
    assert!(f64::from(above) < delta * f64::from(runs), "{above}");
    assert!(f64::from(fixed) > delta * f64::from(runs), "{fixed}");
    assert!(rng.next_u64() > 0);
}

proptest! {
    #![proptest_config(crate::laws(24))]

    /// It only rises, does not depend on how charges are grouped, is never below what an accountant says
    /// of the same run fixed in advance, and not far above it.
    #[test]
    fn rises_and_is_close(
        q in 1e-3f64..0.3, z in 0.7f64..5.0, first in 1u64..800, second in 1u64..800, d in 3f64..9.0,
    ) {
        let delta = 10f64.powf(-d);
        let mut meter = odometer(delta);
        let one = meter.charge(&step(q, z), first).unwrap();
        let two = meter.charge(&step(q, z), second).unwrap();
        prop_assert!(two >= one);
        let mut whole = odometer(delta);
        let whole = whole.charge(&step(q, z), first + second).unwrap();
        prop_assert!((whole - two).abs() <= 1e-9 * (1.0 + two));
        let mut renyi = RdpAccountant::new(Adjacency::AddRemove);
        renyi.compose(&step(q, z), first + second).unwrap();
        let fixed = renyi.epsilon(Delta::new(delta).unwrap()).unwrap().epsilon;
        prop_assert!(two >= fixed * (1.0 - 1e-9), "{two} {fixed}");
        prop_assert!(two <= 2.5 * fixed + 0.2, "{two} {fixed}");
        prop_assert_eq!(Odometer::restore(&meter.save()).unwrap(), meter);
    }
}

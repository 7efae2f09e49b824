//! Noise drawn ahead is the noise that would have been drawn, and a position forgets it until it is used.

use sphinx_dp::mechanism::{ClipBound, Clipped};
use sphinx_dp::{Adjacency, LedgerBuilder, NoiseMultiplier, SamplingRate};

use super::*;

const LEN: usize = 40;

fn mechanism() -> GaussianMechanism {
    let rate = SamplingRate::from_mean(5.0, 50).unwrap();
    let z = NoiseMultiplier::new(1.0).unwrap();
    GaussianMechanism::new(ClipBound::new(1 << 10).unwrap(), Some(z), rate).unwrap()
}

/// The values of the noise, as a release of nothing shows them.
fn values(noise: PreparedNoise) -> Vec<i64> {
    let mechanism = mechanism();
    let nothing = Clipped::check(vec![0; LEN], &[], mechanism.bound()).unwrap();
    let mut ledger = LedgerBuilder::new(None, Adjacency::AddRemove).in_memory();
    let noised = mechanism.release(0, nothing, noise, &mut ledger).unwrap();
    noised.values().to_vec()
}

#[test]
fn noise_drawn_ahead_is_the_noise_of_its_step() {
    let mechanism = mechanism();
    let mut there = Streams::seeded_for_experiments(3);
    let expected = [0, 1, 2].map(|_| values(there.noise(&mechanism, LEN)));
    assert_ne!(expected[0], expected[1]);
    let mut ahead = Streams::seeded_for_experiments(3);
    let first = values(ahead.noise(&mechanism, LEN));
    let rest = [0, 1].map(|at| {
        let (mut drawn, seconds, done) = ahead.noise_meanwhile(&mechanism, LEN, || at);
        assert!(seconds > 0.0 && done == at);
        let noise = values(drawn.take().unwrap());
        // For one use.
        assert!(drawn.take().is_none());
        noise
    });
    assert_eq!([vec![first], rest.to_vec()].concat(), expected);
    assert_eq!(ahead.position(), there.position());
}

/// A run that is interrupted before noise was used draws the same again; one from secret streams has
/// no position, and draws other noise.
#[test]
fn a_position_is_before_noise_that_nothing_has_used() {
    let mechanism = mechanism();
    let mut streams = Streams::seeded_for_experiments(3);
    let at_first = streams.position();
    let (mut drawn, _, ()) = streams.noise_meanwhile(&mechanism, LEN, || {
        // Batches are drawn by the stream beside it.
    });
    assert_eq!(drawn.position(&streams), at_first);
    assert_ne!(streams.position(), at_first);
    let mut resumed = Streams::resume_seeded(3, &drawn.position(&streams).unwrap());
    let noise = drawn.take().unwrap();
    assert_eq!(drawn.position(&streams), streams.position());
    assert_eq!(values(resumed.noise(&mechanism, LEN)), values(noise));

    let mut secret = Streams::secret(&mut ChaCha20Rng::seed_from_u64(1));
    let (drawn, _, ()) = secret.noise_meanwhile(&mechanism, LEN, || ());
    assert!(drawn.position(&secret).is_none() && drawn.0.is_some());
}

//! Noise that was drawn ahead.

use super::*;

#[test]
fn prepared_noise_remembers_where_it_came_from() {
    let table = DiscreteGaussian::new(100.0).unwrap();
    let ladder = LadderGaussian::new(100.0).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let exact = PreparedNoise::draw_vartime(&table, 5, &mut rng);
    let close = PreparedNoise::draw(&ladder, 5, &mut rng);
    for (noise, kind) in [(exact, NoiseKind::Exact), (close, NoiseKind::Ladder)] {
        assert_eq!(
            (noise.len(), noise.kind(), noise.std_dev()),
            (5, kind, 100.0)
        );
        assert!(kind.protects());
        assert_eq!(noise.marked_as_test().kind(), NoiseKind::SeededTest);
    }
    assert!(!NoiseKind::SeededTest.protects() && !NoiseKind::None.protects());
    assert_eq!(NoiseKind::Ladder.distance(), 2f64.powi(-100));
    assert_eq!(NoiseKind::Exact.distance(), 0.0);
    let none = PreparedNoise::none(3);
    assert_eq!(none.marked_as_test().kind(), NoiseKind::None);
}

#[test]
fn seeds_repeat_and_are_marked() {
    let table = DiscreteGaussian::new(100.0).unwrap();
    let ladder = LadderGaussian::new(100.0).unwrap();
    let both: [Box<dyn Fn([u8; 32]) -> PreparedNoise>; 2] = [
        Box::new(|seed| PreparedNoise::draw_seeded(&ladder, 4, seed)),
        Box::new(|seed| PreparedNoise::draw_seeded_vartime(&table, 4, seed)),
    ];
    for draw in both {
        assert_eq!(draw([7; 32]).kind(), NoiseKind::SeededTest);
        let (mut a, mut b, mut c) = (vec![0; 4], vec![i64::MAX; 4], vec![0; 4]);
        draw([7; 32]).add_to(&mut a);
        draw([7; 32]).add_to(&mut b);
        draw([8; 32]).add_to(&mut c);
        assert!(a.iter().any(|&x| x != 0) && a != c);
        let saturated = b
            .iter()
            .zip(&a)
            .all(|(b, a)| *b == i64::MAX.saturating_add(*a));
        assert!(saturated);
    }
}

/// Asking for more draws does not change the first ones, within a block and beyond.
#[test]
fn draws_do_not_depend_on_how_many_are_asked_for() {
    let ladder = LadderGaussian::new(1000.0).unwrap();
    let drawn = |n: usize| {
        let mut out = vec![0; n];
        ladder.fill(&mut out, &mut ChaCha20Rng::seed_from_u64(5));
        out
    };
    let all = drawn(5000);
    for n in [0, 1, 1023, 1024, 1025, 4096] {
        assert_eq!(drawn(n), all[..n]);
    }
}

//! Laws, outside vectors and spot values for the Renyi accountant.

use std::num::NonZeroU64;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::accountant::{Accountant, Reason, Spent};
use crate::event::DpEvent;
use crate::quantity::{Adjacency, Delta, NoiseMultiplier, SamplingRate};

fn rate(q: f64) -> SamplingRate {
    SamplingRate::new(q).unwrap()
}

fn gaussian(z: f64) -> DpEvent {
    DpEvent::gaussian(NoiseMultiplier::new(z).unwrap())
}

fn step(q: f64, z: f64) -> DpEvent {
    DpEvent::poisson_gaussian(rate(q), NoiseMultiplier::new(z).unwrap())
}

fn spend(events: &[(DpEvent, u64)], adjacency: Adjacency, delta: f64) -> Spent {
    let mut accountant = RdpAccountant::new(adjacency);
    for (event, count) in events {
        accountant.compose(event, *count).unwrap();
    }
    accountant.epsilon(Delta::new(delta).unwrap()).unwrap()
}

fn epsilon(q: f64, z: f64, steps: u64, delta: f64) -> f64 {
    spend(&[(step(q, z), steps)], Adjacency::AddRemove, delta).epsilon
}

/// The rows of a reference table as maps from column to field; says so and is empty if absent.
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn load(name: &str) -> Self {
        let root = std::env::var_os("SPHINX_REFERENCE").map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/reference"),
            PathBuf::from,
        );
        let path = root.join("dp").join(name);
        let Ok(text) = std::fs::read_to_string(&path) else {
            println!(
                "SKIPPED: no reference table at {}; set SPHINX_REFERENCE",
                path.display()
            );
            return Self {
                columns: Vec::new(),
                rows: Vec::new(),
            };
        };
        let mut lines = text
            .lines()
            .map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        let columns = lines.next().unwrap();
        let rows: Vec<_> = lines.collect();
        assert!(!rows.is_empty(), "{name} has no rows");
        Self { columns, rows }
    }

    fn text<'a>(&self, row: &'a [String], column: &str) -> &'a str {
        let i = self.columns.iter().position(|c| c == column).unwrap();
        &row[i]
    }

    fn number(&self, row: &[String], column: &str) -> f64 {
        self.text(row, column).parse().unwrap()
    }
}

#[test]
fn divergences_against_forty_digit_quadrature() {
    let table = Table::load("rdp.csv");
    let mut worst: f64 = 0.0;
    for row in &table.rows {
        let [q, z, order, expected] =
            ["q", "sigma", "alpha", "rdp_ref"].map(|column| table.number(row, column));
        let error = poisson_gaussian(q, z, order).unwrap() / expected - 1.0;
        assert!(error > -1e-12, "q {q} z {z} order {order}: {error:e}");
        worst = worst.max(error);
    }
    println!(
        "rdp.csv: {} rows, worst relative excess {worst:e}",
        table.rows.len()
    );
    assert!(worst < 1e-10);
}

/// A Gaussian on a batch of fixed size; the table's noise is over twice the clip bound.
fn fixed_size(table: &Table, row: &[String]) -> DpEvent {
    let [z, batch, population] =
        ["sigma", "batch_size", "dataset_size"].map(|column| table.number(row, column));
    let size = |x: f64| NonZeroU64::new(x as u64).unwrap();
    gaussian(2.0 * z).without_replacement(size(batch), size(population))
}

/// The bound without replacement, to nine digits; where a row is larger, its own alternating sum has
/// lost its digits, and the general bound of the table is larger still.
#[test]
fn without_replacement_divergences() {
    let table = Table::load("wor_rdp.csv");
    let mut lost = 0;
    for row in &table.rows {
        let mut accountant = RdpAccountant::new(Adjacency::ReplaceOne);
        accountant.compose(&fixed_size(&table, row), 1).unwrap();
        let ours = accountant.rdp(table.number(row, "alpha"));
        let expected = table.number(row, "rdp_wor_dp_accounting_replace_one");
        let error = ours / expected - 1.0;
        let order = table.number(row, "alpha");
        if error < -1e-9 {
            println!("{row:?}: {ours} {error:e}");
            assert!(order > 200.0, "{row:?}: {ours} {error:e}");
            lost += 1;
        }
        assert!(error < 1e-9, "{row:?}: {ours} {error:e}");
    }
    assert!(lost <= table.rows.len() / 30, "{lost}");
    // Such a row with 400 digits.
    let size = |x: u64| NonZeroU64::new(x).unwrap();
    let event = gaussian(16.0).without_replacement(size(60_000), size(600_000));
    let mut accountant = RdpAccountant::new(Adjacency::ReplaceOne);
    accountant.compose(&event, 1).unwrap();
    let error = accountant.rdp(256.0) / 0.041_668_848_232_319_04 - 1.0;
    assert!(error.abs() < 1e-10, "{error:e}");
}

/// Never above the table, which tries a list of orders only, and the same at the order of the table.
#[test]
fn without_replacement_epsilons() {
    let table = Table::load("wor_epsilon.csv");
    for row in &table.rows {
        let [count, at, expected, order] =
            ["T", "delta", "eps_rdp_wor_dp_accounting", "order"].map(|c| table.number(row, c));
        let mut accountant = RdpAccountant::new(Adjacency::ReplaceOne);
        let event = fixed_size(&table, row);
        accountant.compose(&event, count as u64).unwrap();
        let there = convert(accountant.rdp(order), order, at);
        assert!((there / expected - 1.0).abs() < 1e-9, "{row:?}: {there}");
        let ours = accountant.epsilon(Delta::new(at).unwrap()).unwrap();
        assert!(ours.epsilon <= expected * (1.0 + 1e-9), "{row:?}: {ours:?}");
        assert!(ours.epsilon >= 0.3 * expected, "{row:?}: {ours:?}");
    }
}

fn check_epsilon(ours: Spent, expected: f64, what: &str) -> f64 {
    let excess = ours.epsilon / expected - 1.0;
    assert!(
        ours.epsilon >= expected - 1e-9 * expected.max(1.0),
        "{what}: {excess:e} below"
    );
    excess
}

/// A row that we exceed by more than this must be in error itself.
const EXCESS: f64 = 1e-4;

#[test]
fn epsilons_against_the_best_real_order() {
    let table = Table::load("epsilon.csv");
    let (mut worst, mut least, mut wrong) = (0.0f64, 0.0f64, 0);
    for row in &table.rows {
        let [q, z, count, delta, expected, truth, order] = [
            "q",
            "sigma",
            "T",
            "delta",
            "eps_rdp_cont",
            "eps_ref",
            "rdp_cont_order",
        ]
        .map(|column| table.number(row, column));
        let ours = spend(&[(step(q, z), count as u64)], Adjacency::AddRemove, delta);
        let what = format!("{q} {z} {count} {delta}");
        let excess = check_epsilon(ours, expected, &what);
        assert!(
            ours.epsilon > truth * (1.0 - 3e-6) - 1e-6,
            "below the truth"
        );
        if excess > EXCESS {
            println!(
                "in error: {what}, order {order}: {expected}, ours {}",
                ours.epsilon
            );
            // Where the curve bends sharply, some rows state an epsilon that the true curve does
            // not reach at the stated order (see `the_bend`).
            wrong += 1;
            assert!(order > 150.0, "{what}: {excess:e}");
            for order in [order * (1.0 - 1e-5), order, order * (1.0 + 1e-5)] {
                let rdp = count * poisson_gaussian(q, z, order).unwrap();
                assert!(
                    convert(rdp, order, delta) > ours.epsilon,
                    "{what}: {excess:e}"
                );
            }
        } else {
            (worst, least) = (worst.max(excess), least.min(excess));
        }
    }
    let rows = table.rows.len();
    println!("epsilon.csv: {rows} rows, {wrong} of them in error, excess {least:e} to {worst:e}");
}

#[test]
fn mixed_schedules_against_the_best_real_order() {
    let table = Table::load("heterogeneous.csv");
    for row in &table.rows {
        let phases = table.text(row, "phases_q:sigma:T");
        let events: Vec<_> = phases
            .split(';')
            .map(|phase| {
                let [q, z, count] = phase
                    .split(':')
                    .map(|x| x.parse::<f64>().unwrap())
                    .collect::<Vec<_>>()[..]
                else {
                    panic!("{phase}")
                };
                let event = if q < 1.0 { step(q, z) } else { gaussian(z) };
                (event, count as u64)
            })
            .collect();
        let ours = spend(&events, Adjacency::AddRemove, table.number(row, "delta"));
        let excess = check_epsilon(ours, table.number(row, "eps_rdp_cont"), phases);
        assert!(excess < EXCESS, "{phases}: {excess:e} above");
    }
}

/// Under replace-one the bound must lie above the true epsilon, and the unsampled one close.
#[test]
fn replace_one_is_above_the_truth() {
    let table = Table::load("adjacency.csv");
    for row in &table.rows {
        let [q, z, count, truth] =
            ["q", "sigma", "T", "eps_replace_one_d1e-5"].map(|column| table.number(row, column));
        let ours = spend(&[(step(q, z), count as u64)], Adjacency::ReplaceOne, 1e-5).epsilon;
        println!(
            "q {q} z {z} T {count}: {ours} against {truth}, x{:.3}",
            ours / truth
        );
        // The reference is itself an upper bound, on a grid of up to 0.01.
        assert!(
            ours > truth * (1.0 - 1e-4) - 0.02,
            "q {q} z {z} T {count}: {ours} < {truth}"
        );
    }
}

/// At low rates the best order sits at a sharp bend. 30-digit quadrature at 500 of 60000, z = 4,
/// one step, delta 1e-5.
#[test]
fn the_bend() {
    let at = |order| {
        convert(
            poisson_gaussian(500.0 / 60_000.0, 4.0, order).unwrap(),
            order,
            1e-5,
        )
    };
    for (order, expected) in [
        (151.0, 0.037_028_800_062_859_2),
        (152.8, 0.036_553_306_405_594_5),
        (153.0, 0.036_547_473_324_551_2),
        (153.171, 0.036_599_178_290_686_2),
        (153.5, 0.037_132_838_681_313_2),
    ] {
        assert!((at(order) / expected - 1.0).abs() < 1e-9, "order {order}");
    }
    let least = epsilon(500.0 / 60_000.0, 4.0, 1, 1e-5);
    assert!((0.036_54..0.036_547_4).contains(&least), "{least}");
}

#[test]
fn spot_values() {
    // 40-digit quadrature, and the best real order, computed with mpmath.
    let value = epsilon(1.0, 0.5, 1, 1e-5);
    assert!((value - 10.724_824_112_939).abs() < 1e-8, "{value}");
    // 500 of 60000, z = 1, 3000 steps: several public accountants answer 2.874688.
    let value = epsilon(500.0 / 60_000.0, 1.0, 3000, 1e-5);
    assert!((2.8740..2.874_688).contains(&value), "{value}");
}

#[test]
fn nothing_costs_nothing_and_unprotected_costs_all() {
    let mut accountant = RdpAccountant::new(Adjacency::AddRemove);
    let delta = Delta::new(1e-5).unwrap();
    accountant.compose(&DpEvent::NoOp, 5).unwrap();
    accountant.compose(&step(0.1, 1.0), 0).unwrap();
    assert_eq!(accountant.epsilon(delta).unwrap().epsilon, 0.0);
    accountant
        .compose(&DpEvent::Composed(vec![DpEvent::NonPrivate]), 1)
        .unwrap();
    assert_eq!(accountant.epsilon(delta).unwrap().epsilon, f64::INFINITY);
}

#[test]
fn refused_events_are_named_and_leave_no_trace() {
    let mut accountant = RdpAccountant::new(Adjacency::AddRemove);
    let nested = DpEvent::PoissonSampled {
        rate: rate(0.1),
        event: Box::new(step(0.2, 1.0)),
    };
    let tree = DpEvent::Composed(vec![gaussian(1.0), nested.clone()]);
    let error = accountant.compose(&tree, 1).unwrap_err();
    assert_eq!(
        (*error.event, error.reason),
        (nested, Reason::NestedSampling)
    );
    let many = gaussian(1.0).repeated(u64::MAX);
    assert_eq!(
        accountant.compose(&many, 2).unwrap_err().reason,
        Reason::TooMany
    );
    assert_eq!(
        accountant
            .epsilon(Delta::new(0.5).unwrap())
            .unwrap()
            .epsilon,
        0.0
    );
}

#[test]
fn gaussians_on_one_batch_add_their_precisions() {
    let joint = DpEvent::PoissonSampled {
        rate: rate(0.05),
        event: Box::new(DpEvent::Composed(vec![
            gaussian(2.0).repeated(3),
            gaussian(4.0),
        ])),
    };
    let z = (3.0f64 / 4.0 + 1.0 / 16.0).sqrt().recip();
    let a = spend(&[(joint, 100)], Adjacency::AddRemove, 1e-5).epsilon;
    let b = epsilon(0.05, z, 100, 1e-5);
    assert!((a / b - 1.0).abs() < 1e-9 && a >= b);
}

#[test]
fn edges_are_reported() {
    // So much noise that the best order lies beyond 2001, so little that it lies below 1.005.
    assert!(spend(&[(gaussian(1e6), 1)], Adjacency::AddRemove, 1e-5).at_edge);
    assert!(spend(&[(gaussian(1e-3), 1)], Adjacency::AddRemove, 1e-5).at_edge);
    assert!(!spend(&[(gaussian(1.0), 1)], Adjacency::AddRemove, 1e-5).at_edge);
}

#[test]
fn order_one_limit_is_twice_the_kl_bound() {
    // As the order falls to one the divergence falls to the Kullback-Leibler divergence, and for
    // small rates the order-2 value is twice that: ln(1 + q^2 (e^(1/z^2) - 1)).
    let low = poisson_gaussian(0.001, 4.0, 1.0001).unwrap();
    let two = poisson_gaussian(0.001, 4.0, 2.0).unwrap();
    let exact = (1e-6 * (1.0f64 / 16.0).exp_m1()).ln_1p();
    assert!((two / exact - 1.0).abs() < 1e-10);
    assert!((low / two - 0.5).abs() < 0.02, "{}", low / two);
}

#[test]
fn ranges_are_refused() {
    for (q, z, order) in [
        (0.0, 1.0, 2.0),
        (1.1, 1.0, 2.0),
        (0.5, 0.0, 2.0),
        (0.5, 1.0, 1.0),
    ] {
        assert!(poisson_gaussian(q, z, order).is_err());
    }
    assert!(poisson_gaussian(f64::NAN, 1.0, 2.0).is_err());
    assert!(poisson_gaussian(0.5, 1.0, 1e9).is_err());
}

proptest! {
    #![proptest_config(crate::laws(48))]

    #[test]
    fn monotone(q in 1e-4f64..0.5, z in 0.4f64..6.0, steps in 1u64..5000, d in 3f64..9.0) {
        let delta = 10f64.powf(-d);
        let here = epsilon(q, z, steps, delta);
        let close = 1.0 + 1e-8;
        prop_assert!(epsilon(q * 1.05, z, steps, delta) * close >= here);
        prop_assert!(epsilon(q, z * 1.05, steps, delta) <= here * close);
        prop_assert!(epsilon(q, z, steps + 7, delta) * close >= here);
        prop_assert!(epsilon(q, z, steps, delta * 1.1) <= here * close);
    }

    #[test]
    fn orders_are_monotone(q in 1e-5f64..1.0, z in 0.3f64..9.0, a in 1.01f64..99.0) {
        let here = poisson_gaussian(q, z, a).unwrap();
        prop_assert!(poisson_gaussian(q, z, a * 1.01).unwrap() >= here * (1.0 - 1e-11));
        prop_assert!(here <= a / (2.0 * z * z) * (1.0 + 1e-10));
        // ln A = (a - 1) D is convex in the order.
        let moment = |a: f64| (a - 1.0) * poisson_gaussian(q, z, a).unwrap();
        let middle = moment(a + 0.3);
        prop_assert!(2.0 * middle <= (moment(a) + moment(a + 0.6)) * (1.0 + 1e-10));
    }

    #[test]
    fn composition_adds_up(q in 1e-3f64..0.3, z in 0.5f64..4.0, m in 1u64..900, n in 1u64..900) {
        let other = step(0.02, 1.5);
        let add = Adjacency::AddRemove;
        let whole = spend(&[(step(q, z), m + n), (other.clone(), 10)], add, 1e-5);
        let parts =
            [(step(q, z), m), (other.repeated(10), 1), (step(q, z).repeated(n), 1)];
        let parts = spend(&parts, add, 1e-5);
        prop_assert!((whole.epsilon / parts.epsilon - 1.0).abs() < 1e-9);
    }

    #[test]
    fn unsampled_is_the_closed_form(z in 0.3f64..20.0, k in 1u64..500) {
        // k releases at z are one at z / sqrt(k), and sampling at rate one is no sampling.
        let many = epsilon(1.0, z, k, 1e-6);
        let one = spend(&[(gaussian(z / (k as f64).sqrt()), 1)], Adjacency::AddRemove, 1e-6);
        prop_assert!((many / one.epsilon - 1.0).abs() < 1e-8);
        // Replace-one doubles the sensitivity.
        let replaced = spend(&[(gaussian(2.0 * z), k)], Adjacency::ReplaceOne, 1e-6);
        prop_assert!((replaced.epsilon / many - 1.0).abs() < 1e-8);
    }

    #[test]
    fn replace_one_costs_more(q in 1e-3f64..0.9, z in 0.5f64..5.0, steps in 1u64..500) {
        let event = [(step(q, z), steps)];
        let replaced = spend(&event, Adjacency::ReplaceOne, 1e-5).epsilon;
        let added = spend(&event, Adjacency::AddRemove, 1e-5).epsilon;
        let unsampled = spend(&[(gaussian(z), steps)], Adjacency::ReplaceOne, 1e-5).epsilon;
        prop_assert!(replaced >= added * (1.0 - 1e-9) && replaced <= unsampled * (1.0 + 1e-7));
    }
}

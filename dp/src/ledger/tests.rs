//! The filter, and the file under crashes.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::book::priced_at;
use super::*;
use crate::accountant::AccountantKind;
use crate::calibrate::Budget;
use crate::event::DpEvent;
use crate::quantity::{Adjacency, Delta, Epsilon, NoiseMultiplier, SamplingRate};

const ADD: Adjacency = Adjacency::AddRemove;

fn budget(epsilon: f64) -> Option<Budget> {
    let (epsilon, delta) = (Epsilon::new(epsilon).unwrap(), Delta::new(1e-5).unwrap());
    Some(Budget { epsilon, delta })
}

fn event(z: f64) -> DpEvent {
    let rate = SamplingRate::from_mean(500.0, 60_000).unwrap();
    DpEvent::poisson_gaussian(rate, NoiseMultiplier::new(z).unwrap())
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.jsonl");
    (directory, path)
}

#[test]
fn the_filter_refuses_and_leaves_no_trace() {
    let (_directory, path) = place();
    let mut ledger = Ledger::create(&path, budget(0.5), ADD).unwrap();
    let mut steps = 0;
    while !ledger.would_exceed(&event(1.6)) {
        let receipt = ledger.charge(steps, &event(1.6)).unwrap();
        assert!(receipt.durable() && receipt.spent().epsilon <= 0.5);
        steps += 1;
    }
    assert!(steps > 0);
    let (before, spent) = (fs::read(&path).unwrap(), ledger.spent().unwrap());
    let error = ledger.charge(steps, &event(1.6)).unwrap_err();
    assert!(matches!(error, LedgerError::BudgetExhausted { would_be, .. } if would_be > 0.5));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(ledger.spent().unwrap(), spent);
    // A smaller step may still fit, and nothing always does.
    assert!(!ledger.would_exceed(&DpEvent::NoOp));
    assert!(ledger.would_exceed(&DpEvent::NonPrivate));
}

#[test]
fn reopening_recomposes() {
    let (_directory, path) = place();
    let mut ledger = Ledger::create(&path, budget(3.0), ADD).unwrap();
    for step in 0..20 {
        ledger
            .charge(step, &event(if step % 2 == 0 { 1.0 } else { 1.5 }))
            .unwrap();
    }
    let (spent, entries) = (ledger.spent().unwrap(), ledger.entries().to_vec());
    drop(ledger);
    let mut again = Ledger::open(&path).unwrap();
    assert_eq!(again.entries(), entries);
    assert_eq!(
        (again.budget(), again.adjacency(), again.dropped_bytes()),
        (budget(3.0), ADD, 0)
    );
    assert!((again.spent().unwrap().epsilon - spent.epsilon).abs() < 1e-12);
    // The same step again, as after a crash, is charged again.
    assert_eq!(again.charge(19, &event(1.0)).unwrap().sequence(), 20);
}

#[test]
fn never_overwritten_never_shared() {
    let (_directory, path) = place();
    let ledger = Ledger::create(&path, None, ADD).unwrap();
    assert!(matches!(
        Ledger::create(&path, None, ADD),
        Err(LedgerError::Exists { .. })
    ));
    assert!(matches!(
        Ledger::open(&path),
        Err(LedgerError::Locked { .. })
    ));
    drop(ledger);
    assert!(Ledger::open(&path).is_ok());
    let missing = path.with_file_name("missing");
    assert!(matches!(
        Ledger::open(missing),
        Err(LedgerError::Io { action: "open", .. })
    ));
}

/// Cut the file at every byte: all confirmed charges before the cut survive, at most the one whose
/// line was cut is missing, and the ledger goes on from there.
#[test]
fn a_cut_at_any_byte_loses_at_most_the_torn_line() {
    let (_directory, path) = place();
    let mut ledger = Ledger::create(&path, budget(3.0), ADD).unwrap();
    for step in 0..3 {
        ledger.charge(step, &event(1.0)).unwrap();
    }
    let entries = ledger.entries().to_vec();
    drop(ledger);
    let whole = fs::read(&path).unwrap();
    let header = whole.iter().position(|&b| b == b'\n').unwrap() + 1;
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        if cut < header {
            assert!(
                matches!(Ledger::open(&path), Err(LedgerError::NoHeader { .. })),
                "cut {cut}"
            );
            continue;
        }
        let mut ledger = Ledger::open(&path).unwrap();
        let breaks = whole[header..cut].iter().filter(|&&b| b == b'\n').count();
        // A whole line that lost only its line break still counts.
        let complete = whole.get(cut) == Some(&b'\n') && cut > header;
        let kept = breaks + usize::from(complete);
        assert_eq!(ledger.entries(), &entries[..kept], "cut {cut}");
        let torn = !complete && whole[..cut].last() != Some(&b'\n');
        assert_eq!(ledger.dropped_bytes() > 0, torn, "cut {cut}");
        assert_eq!(
            ledger.charge(9, &event(1.0)).unwrap().sequence(),
            kept as u64
        );
        drop(ledger);
        let ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.entries().len(), kept + 1, "cut {cut}");
        assert_eq!(ledger.dropped_bytes(), 0, "cut {cut}");
    }
}

#[test]
fn damage_elsewhere_is_refused() {
    let (_directory, path) = place();
    let mut ledger = Ledger::create(&path, None, ADD).unwrap();
    for step in 0..3 {
        ledger.charge(step, &event(1.0)).unwrap();
    }
    drop(ledger);
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let with = |lines: &[&str]| fs::write(&path, lines.join("\n") + "\n").unwrap();

    with(&[lines[0], lines[1], "{\"sequence\":1", lines[3]]);
    assert!(matches!(
        Ledger::open(&path),
        Err(LedgerError::Damaged { line: 3, .. })
    ));
    // A last line that ends in a line break was not torn.
    with(&[lines[0], "{\"sequence\":0"]);
    assert!(matches!(
        Ledger::open(&path),
        Err(LedgerError::Damaged { line: 2, .. })
    ));
    with(&[lines[0], lines[1], lines[3]]);
    let error = Ledger::open(&path).unwrap_err();
    assert!(matches!(
        error,
        LedgerError::Sequence {
            expected: 1,
            found: 2,
            ..
        }
    ));
    with(&[
        &lines[0].replace("\"sphinx_ledger\":1", "\"sphinx_ledger\":9"),
        lines[1],
    ]);
    assert!(matches!(
        Ledger::open(&path),
        Err(LedgerError::Version { found: 9, .. })
    ));
    with(&["not a ledger"]);
    assert!(matches!(
        Ledger::open(&path),
        Err(LedgerError::Damaged { line: 1, .. })
    ));
    // Values out of range do not get in through the file.
    with(&[
        lines[0],
        &lines[1].replace("\"noise_multiplier\":1.0", "\"noise_multiplier\":-1.0"),
    ]);
    assert!(matches!(
        Ledger::open(&path),
        Err(LedgerError::Damaged { line: 2, .. })
    ));
}

#[test]
fn events_that_cannot_be_priced_are_refused_unwritten() {
    let (_directory, path) = place();
    let mut ledger = Ledger::create(&path, None, ADD).unwrap();
    let before = fs::read(&path).unwrap();
    let nested = DpEvent::PoissonSampled {
        rate: SamplingRate::new(0.5).unwrap(),
        event: Box::new(event(1.0)),
    };
    assert!(ledger.would_exceed(&nested));
    assert!(matches!(
        ledger.charge(0, &nested),
        Err(LedgerError::Unsupported(_))
    ));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[cfg(target_os = "linux")]
#[test]
fn a_failed_write_breaks_the_ledger() {
    use super::file::{Book, Header};
    // The device that is always full.
    let header = Header::new(None, ADD, None);
    let error = Book::create("/dev/full".as_ref(), &header).unwrap_err();
    assert!(matches!(error, LedgerError::Exists { .. }));
    let book = Book::at_full_device().unwrap();
    let mut ledger = Ledger::with_book(book);
    assert!(matches!(
        ledger.charge(0, &event(1.0)),
        Err(LedgerError::Io { .. })
    ));
    assert!(matches!(
        ledger.charge(1, &event(1.0)),
        Err(LedgerError::Broken)
    ));
    // Counted as spent all the same.
    assert!(ledger.spent().unwrap().epsilon > 0.0);
}

#[test]
fn a_fixed_order_costs_more_and_survives_reopening() {
    let (_directory, path) = place();
    let builder = LedgerBuilder::new(budget(3.0), ADD)
        .fixed_order(12.0)
        .unwrap();
    let mut fixed = builder.create(&path).unwrap();
    let mut free = Ledger::in_memory(budget(3.0), ADD);
    assert_eq!(fixed.spent().unwrap().epsilon, 0.0);
    for step in 0..10 {
        let a = fixed.charge(step, &event(2.0)).unwrap().spent();
        let b = free.charge(step, &event(2.0)).unwrap().spent();
        assert!(a.epsilon >= b.epsilon && a.order == 12.0);
    }
    let spent = fixed.spent().unwrap();
    drop(fixed);
    let again = Ledger::open(&path).unwrap();
    assert_eq!(
        (again.fixed_order(), again.spent().unwrap()),
        (Some(12.0), spent)
    );
    assert!(LedgerBuilder::new(None, ADD).fixed_order(1.0).is_err());
    let text = fs::read_to_string(&path).unwrap_or_default();
    assert!(text.lines().count() == 11);
}

fn plan(steps: u64) -> FixedPlan {
    FixedPlan {
        accountant: AccountantKind::Pld,
        rate: SamplingRate::from_mean(500.0, 60_000).unwrap(),
        noise_multiplier: NoiseMultiplier::new(1.0).unwrap(),
        steps,
    }
}

#[test]
fn a_fixed_plan_allows_its_steps_and_nothing_else() {
    let (_directory, path) = place();
    let builder = LedgerBuilder::new(budget(0.75), ADD);
    let steps = 60;
    let builder = builder.fixed_plan(plan(steps)).unwrap();
    let mut ledger = builder.create(&path).unwrap();
    assert_eq!(ledger.priced_by(), AccountantKind::Pld);
    // The Renyi accountant alone would not have allowed all of them.
    let mut renyi = Ledger::in_memory(budget(0.75), ADD);
    let mut allowed = 0;
    let mut last = 0.0;
    for step in 0..steps {
        // Less noise, a larger rate, no sampling: not of the plan. More noise is.
        for other in [
            event(0.99),
            DpEvent::gaussian(NoiseMultiplier::new(50.0).unwrap()),
        ] {
            let error = ledger.charge(step, &other).unwrap_err();
            assert!(matches!(error, LedgerError::OffPlan { .. }), "{error}");
        }
        let spent = ledger.charge(step, &event(1.0)).unwrap().spent().epsilon;
        assert!(spent <= 0.75 && spent >= last, "{step}: {spent} {last}");
        last = spent;
        allowed += u64::from(renyi.charge(step, &event(1.0)).is_ok());
        if step == 40 {
            drop(ledger);
            ledger = Ledger::open(&path).unwrap();
            assert_eq!(ledger.fixed_plan(), Some(plan(steps)));
            assert_eq!(ledger.spent().unwrap().epsilon, last);
        }
    }
    assert!(allowed < steps, "{allowed}");
    assert!(ledger.would_exceed(&event(1.0)));
    let error = ledger.charge(steps, &event(1.0)).unwrap_err();
    assert!(
        matches!(error, LedgerError::PlanExhausted { steps: 60, .. }),
        "{error}"
    );
}

/// What is shown never falls from one step to the next, the first ones included, and the plan's own
/// accountant speaks from the first: after a few steps it is below the Renyi bound.
#[test]
fn what_a_plan_has_spent_never_falls() {
    for (rate, z, steps, delta) in [
        (500.0 / 60_000.0, 1.0, 1000, 1e-5),
        (500.0 / 60_000.0, 0.7, 90, 1e-5),
        (8192.0 / 60_000.0, 2.5, 450, 1e-5),
        (0.5, 6.0, 40, 1e-6),
        (1.0, 20.0, 70, 1e-9),
        (1e-2, 0.6, 100, 1e-7),
    ] {
        let plan = FixedPlan {
            accountant: AccountantKind::Pld,
            rate: SamplingRate::new(rate).unwrap(),
            noise_multiplier: NoiseMultiplier::new(z).unwrap(),
            steps,
        };
        let (epsilon, at) = (Epsilon::new(100.0).unwrap(), Delta::new(delta).unwrap());
        let budget = Budget { epsilon, delta: at };
        let builder = LedgerBuilder::new(Some(budget), ADD);
        let mut ledger = builder.fixed_plan(plan).unwrap().in_memory();
        let mut renyi = Ledger::in_memory(Some(budget), ADD);
        let mut last = 0.0;
        let mut tighter = 0;
        for step in 0..steps {
            let spent = ledger.charge(step, &plan.step()).unwrap().spent().epsilon;
            assert!(spent >= last, "{plan}: {spent} after {last} at {step}");
            last = spent;
            if step < 32 {
                let looser = renyi.charge(step, &plan.step()).unwrap().spent().epsilon;
                assert!(spent <= looser);
                tighter += u32::from(spent < 0.999 * looser);
            }
        }
        assert!(tighter > 16, "{plan}: {tighter}");
        let whole = plan.spent(ADD, steps, at).unwrap().epsilon;
        assert_eq!(last, whole);
    }
}

#[test]
fn a_plan_is_priced_at_few_counts() {
    for steps in [1, 2, 7, 8, 63, 64, 65, 1000, 3000, 4097, 1 << 20] {
        let (mut last, mut counts) = (0, 0);
        for charges in 1..=steps {
            let count = priced_at(charges, steps);
            assert!(
                count >= charges.max(last) && count <= steps,
                "{charges} {steps}"
            );
            assert!(
                (count - charges) as f64 <= (charges as f64 / 4.0).min(steps as f64 / 64.0 + 1.0)
            );
            counts += u32::from(count != last);
            last = count;
        }
        assert!(last == steps && counts <= 200, "{steps}: {counts}");
    }
}

#[test]
fn a_plan_above_the_budget_is_refused() {
    let builder = LedgerBuilder::new(budget(0.75), ADD);
    let error = builder.fixed_plan(plan(3000)).unwrap_err();
    assert!(
        matches!(error, LedgerError::PlanTooDear { would_be, .. } if would_be > 2.6),
        "{error}"
    );
    let limit = FixedPlan {
        accountant: AccountantKind::Gdp,
        ..plan(10)
    };
    let error = builder.fixed_plan(limit).unwrap_err();
    assert!(error.to_string().contains("no bound"), "{error}");
}

/// An older copy put back, a ledger with other settings, and a line that was changed.
#[test]
fn replayed_and_foreign_files_are_noticed_by_their_mark() {
    let (_directory, path) = place();
    let mut ledger = Ledger::create(&path, budget(3.0), ADD).unwrap();
    let empty = ledger.mark().unwrap();
    ledger.charge(0, &event(1.0)).unwrap();
    let old = fs::read(&path).unwrap();
    ledger.charge(1, &event(1.5)).unwrap();
    let mark = ledger.mark().unwrap();
    assert_eq!((mark.charges(), empty.charges()), (2, 0));
    let text = serde_json::to_string(&mark).unwrap();
    assert_eq!(serde_json::from_str::<LedgerMark>(&text).unwrap(), mark);
    // A charge after the mark, as after a crash, is no fault.
    ledger.charge(2, &event(1.0)).unwrap();
    for known in [&mark, &empty, &ledger.mark().unwrap()] {
        ledger.continues(known).unwrap();
    }
    drop(ledger);
    let new = fs::read_to_string(&path).unwrap();
    Ledger::open(&path).unwrap().continues(&mark).unwrap();

    fs::write(&path, old).unwrap();
    let replayed = Ledger::open(&path).unwrap();
    let refused = MarkError::RolledBack {
        found: 1,
        marked: 2,
    };
    assert_eq!(replayed.continues(&mark), Err(refused));
    replayed.continues(&empty).unwrap();
    drop(replayed);

    let other = MarkError::AnotherLedger { marked: 2 };
    let changed = new.replace("\"noise_multiplier\":1.5", "\"noise_multiplier\":15.0");
    assert_ne!(changed, new);
    fs::write(&path, changed).unwrap();
    assert_eq!(
        Ledger::open(&path).unwrap().continues(&mark),
        Err(other.clone())
    );

    // The ledger of another plan: other budget, adjacency or order, the same charges.
    let fixed = LedgerBuilder::new(budget(3.0), ADD)
        .fixed_order(8.0)
        .unwrap();
    for builder in [
        LedgerBuilder::new(budget(2.9), ADD),
        LedgerBuilder::new(None, ADD),
        LedgerBuilder::new(budget(3.0), Adjacency::ReplaceOne),
        fixed,
    ] {
        let mut foreign = builder.in_memory();
        for (step, z) in [(0, 1.0), (1, 1.5)] {
            // Dear steps may not fit into a foreign budget; then charges are missing.
            let _ = foreign.charge(step, &event(z));
        }
        assert!(foreign.continues(&mark).is_err());
        let unmarked = MarkError::AnotherLedger { marked: 0 };
        assert_eq!(foreign.continues(&empty), Err(unmarked));
    }
}

/// A crash between the charge and the sending: the step is charged again, and the odometer counts
/// both.
#[test]
fn a_lost_step_is_charged_again() {
    let (_directory, path) = place();
    let mut ledger = Ledger::create(&path, budget(3.0), ADD).unwrap();
    let mut readings = vec![ledger.spent().unwrap().epsilon];
    for step in 0..5 {
        readings.push(ledger.charge(step, &event(1.2)).unwrap().spent().epsilon);
    }
    drop(ledger);
    let mut again = Ledger::open(&path).unwrap();
    assert!((again.spent().unwrap().epsilon - readings[5]).abs() < 1e-12);
    readings.push(again.charge(4, &event(1.2)).unwrap().spent().epsilon);
    let steps: Vec<u64> = again.entries().iter().map(|entry| entry.step).collect();
    assert_eq!(steps, [0, 1, 2, 3, 4, 4]);
    assert!(readings.is_sorted_by(|a, b| a < b), "{readings:?}");
    // Six charges cost what six charges cost, whatever they were for.
    let mut plain = Ledger::in_memory(budget(3.0), ADD);
    for step in 0..6 {
        plain.charge(step, &event(1.2)).unwrap();
    }
    assert!((plain.spent().unwrap().epsilon - readings[6]).abs() < 1e-12);
}

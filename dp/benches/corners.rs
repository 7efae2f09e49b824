//! A sweep of the privacy-loss accountant over its whole range: the widest brackets and the slowest
//! questions.
//!
//! Run with `cargo bench -p sphinx-dp --bench corners`; `-- 7` asks only every seventh cell, and
//! `-- 7 3` starts at the third.

use std::io::{self, Write};
use std::time::Instant;

use sphinx_dp::{
    Accountant as _, Adjacency, Delta, DpEvent, NoiseMultiplier, PldAccountant, RdpAccountant,
    SamplingRate,
};

const RATES: [f64; 9] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 0.95, 1.0];
const NOISE: [f64; 7] = [0.3, 0.5, 1.0, 2.0, 5.0, 20.0, 100.0];
const STEPS: [u64; 9] = [1, 2, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];
const DELTAS: [f64; 6] = [1e-15, 1e-12, 1e-9, 1e-5, 1e-2, 0.1];

/// One cell: its name, both bounds, the Renyi bound, and the seconds that the bracket took.
struct Cell {
    name: String,
    lower: f64,
    upper: f64,
    renyi: f64,
    seconds: f64,
}

impl Cell {
    fn new(q: f64, z: f64, steps: u64, delta: f64) -> Option<Self> {
        let event =
            DpEvent::poisson_gaussian(SamplingRate::new(q).ok()?, NoiseMultiplier::new(z).ok()?);
        let at = Delta::new(delta).ok()?;
        let start = Instant::now();
        let mut accountant = PldAccountant::new(Adjacency::AddRemove);
        accountant.compose(&event, steps).ok()?;
        let bracket = accountant.bracket(at).ok()?;
        let seconds = start.elapsed().as_secs_f64();
        let mut renyi = RdpAccountant::new(Adjacency::AddRemove);
        renyi.compose(&event, steps).ok()?;
        Some(Self {
            name: format!("q {q:e}, z {z}, T {steps:e}, delta {delta:e}"),
            lower: bracket.lower,
            upper: bracket.upper,
            renyi: renyi.epsilon(at).ok()?.epsilon,
            seconds,
        })
    }

    /// Width of the bracket, relative to one plus epsilon.
    fn width(&self) -> f64 {
        (self.upper - self.lower) / (1.0 + self.upper)
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "  {:9.2e}  {}: {:.6e} .. {:.6e}, Renyi {:.6e}, {:.1} ms",
            self.width(),
            self.name,
            self.lower,
            self.upper,
            self.renyi,
            1e3 * self.seconds
        )
    }
}

fn sweep(every: usize, first: usize, out: &mut impl Write) -> io::Result<()> {
    let mut cells = Vec::new();
    let mut index = 0;
    for q in RATES {
        for z in NOISE {
            for steps in STEPS {
                for delta in DELTAS {
                    index += 1;
                    if index % every != first % every {
                        continue;
                    }
                    match Cell::new(q, z, steps, delta) {
                        Some(cell) => cells.push(cell),
                        None => writeln!(out, "no answer: {q:e} {z} {steps:e} {delta:e}")?,
                    }
                }
            }
        }
    }
    let mut times: Vec<f64> = cells.iter().map(|c| c.seconds).collect();
    times.sort_by(f64::total_cmp);
    let at = |part: f64| 1e3 * times[((times.len() - 1) as f64 * part) as usize];
    writeln!(
        out,
        "{} cells; milliseconds: median {:.2}, 90 % {:.2}, 99 % {:.1}, slowest {:.1}",
        cells.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    )?;
    for limit in [1e-2, 1e-3, 1e-4, 5e-5, 1e-5] {
        let wider = cells.iter().filter(|c| c.width() > limit).count();
        writeln!(out, "{wider} wider than {limit:e} of one plus epsilon")?;
    }
    cells.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    writeln!(out, "slowest:")?;
    for c in cells.iter().take(12) {
        writeln!(out, "  {:8.1} ms  {}", 1e3 * c.seconds, c.name)?;
    }
    cells.sort_by(|a, b| b.width().total_cmp(&a.width()));
    writeln!(out, "widest:")?;
    for c in cells.iter().take(40) {
        c.print(out)?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let numbers = std::env::args().filter_map(|arg| arg.parse::<f64>().ok());
    let numbers: Vec<f64> = numbers.collect();
    let out = &mut io::stdout();
    match numbers[..] {
        [q, z, steps, delta] => match Cell::new(q, z, steps as u64, delta) {
            Some(cell) => cell.print(out),
            None => writeln!(out, "no answer"),
        },
        [every, first] => sweep((every as usize).max(1), first as usize, out),
        [every] => sweep((every as usize).max(1), 0, out),
        _ => sweep(1, 0, out),
    }
}

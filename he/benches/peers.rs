//! Our transform beside those of other libraries, in one run.
//!
//! `cargo bench -p sphinx-he --bench peers`. Groups `ntt_forward` and `ntt_inverse`; ids
//! `sphinx46/N`, `sphinx50/N` and `sphinx60/N` for our transforms at primes of 46, 50 and 60 bits,
//! `tfhe-ntt/N` (version 0.7.1, with AVX-512) and `fhe-math/N` (0.1.1) at the same prime of 50 bits,
//! `tfhe-ntt60/N` at that of 60. Residues are canonical on entry and on return; the inverse
//! includes the factor `1/N`, which `tfhe-ntt` has in a call of its own. The back end of our rows is
//! the one that `SPHINX_BACKEND` names, or the best; that of the others is their own choice.
//! Every transform is checked to be undone by its inverse before it is timed.
//!
//! All rows are the same memory, at the start of a page, so that no library has better pages than
//! another. What is compared is timed one after the other, and shortly (0.3 s, then 1 s): the speed of a machine
//! changes over some ten seconds, and a ratio should be of one phase. The command line overrides the times.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that fails has no result to report"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sphinx_he::ntt::NttTable;
use sphinx_he::ring::Aligned;
use sphinx_he::zq::{Modulus, prime::transform_primes};

/// As in the `sphinx` binary: tables lie in pages of 2 MiB, where the system gives them, so that how often
/// they fall on the same sets of a cache does not differ from process to process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A transform in place.
type Transform = Box<dyn Fn(&mut [u64])>;

/// Forward and inverse transform of one library, with the modulus.
struct Peer {
    name: &'static str,
    modulus: u64,
    forward: Transform,
    inverse: Transform,
}

fn ours(name: &'static str, bits: u32, log_n: u32) -> Peer {
    let modulus = transform_primes(bits, log_n, 1, &[]).unwrap()[0];
    let table = NttTable::new(Modulus::new(modulus).unwrap(), log_n).unwrap();
    let twin = table.clone();
    Peer {
        name,
        modulus,
        forward: Box::new(move |row| table.forward(row)),
        inverse: Box::new(move |row| twin.inverse(row)),
    }
}

fn tfhe_ntt(name: &'static str, bits: u32, log_n: u32) -> Peer {
    let modulus = transform_primes(bits, log_n, 1, &[]).unwrap()[0];
    let plan = tfhe_ntt::prime64::Plan::try_new(1 << log_n, modulus).unwrap();
    let twin = plan.clone();
    Peer {
        name,
        modulus,
        forward: Box::new(move |row| plan.fwd(row)),
        inverse: Box::new(move |row| {
            twin.inv(row);
            twin.normalize(row);
        }),
    }
}

fn fhe_math(log_n: u32) -> Peer {
    let modulus = transform_primes(50, log_n, 1, &[]).unwrap()[0];
    let field = fhe_math::zq::Modulus::new(modulus).unwrap();
    let operator = fhe_math::ntt::NttOperator::new(&field, 1 << log_n).unwrap();
    let twin = operator.clone();
    Peer {
        name: "fhe-math",
        modulus,
        forward: Box::new(move |row| operator.forward(row)),
        inverse: Box::new(move |row| twin.backward(row)),
    }
}

/// Memory for a row at the start of a page.
struct Page(Aligned);

impl Page {
    /// Words of a page.
    const WORDS: usize = 512;

    fn new(n: usize) -> Self {
        Self(Aligned::zeros(n + Self::WORDS))
    }

    /// The first `n` words, as residues that do not repeat.
    fn residues(&mut self, modulus: u64, n: usize) -> &mut [u64] {
        let before = self.0.as_ptr().align_offset(8 * Self::WORDS);
        let row = &mut self.0[before..][..n];
        row.iter_mut()
            .zip(1u64..)
            .for_each(|(x, i)| *x = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % modulus);
        row
    }
}

/// All libraries at one degree; what is compared stands side by side.
fn peers(log_n: u32) -> [Peer; 6] {
    [
        ours("sphinx46", 46, log_n),
        tfhe_ntt("tfhe-ntt", 50, log_n),
        ours("sphinx50", 50, log_n),
        ours("sphinx60", 60, log_n),
        tfhe_ntt("tfhe-ntt60", 60, log_n),
        fhe_math(log_n),
    ]
}

fn transforms(c: &mut Criterion) {
    let peers: Vec<_> = (12..=15).map(|log_n| (1 << log_n, peers(log_n))).collect();
    let mut page = Page::new(1 << 15);
    for forward in [true, false] {
        let name = if forward {
            "ntt_forward"
        } else {
            "ntt_inverse"
        };
        let mut group = c.benchmark_group(name);
        for (n, peers) in &peers {
            for peer in peers {
                let row = page.residues(peer.modulus, *n);
                let start = row.to_vec();
                (peer.forward)(row);
                assert!(row != start && row.iter().all(|&x| x < peer.modulus));
                (peer.inverse)(row);
                assert_eq!(row, start);
                let transform = if forward {
                    &peer.forward
                } else {
                    &peer.inverse
                };
                group.bench_function(BenchmarkId::new(peer.name, n), |b| {
                    b.iter(|| transform(black_box(row)));
                });
            }
        }
        group.finish();
    }
}

/// Short rows: see above.
fn config() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = config();
    targets = transforms
}
criterion_main!(benches);

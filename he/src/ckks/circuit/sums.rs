//! Sums over slots.

use crate::ckks::{Ciphertext, Evaluator};
use crate::error::Error;
use crate::rlwe::{GaloisKeys, Workspace};

/// The rotations that [`sum_slots`] needs.
#[must_use]
pub fn sum_steps(stride: usize, count: usize) -> Vec<i64> {
    let doublings = 0..count.trailing_zeros();
    doublings.map(|k| (stride << k) as i64).collect()
}

/// Slot `j` becomes the sum of the slots `j, j + stride, ..., j + (count - 1) stride`, counted in a
/// circle; `count` is a power of two.
///
/// Where `count stride` is the number of slots of the packing, every slot holds a full sum. Cost:
/// `log2 count` rotations. Errors of the rotations add up, the first ones with the values.
///
/// # Errors
/// [`Error::BadSlotCount`] unless `count` is a power of two up to the number of slots,
/// [`Error::NoGaloisKey`], and those of a rotation.
pub fn sum_slots(
    evaluator: &Evaluator,
    a: &Ciphertext,
    stride: usize,
    count: usize,
    keys: &GaloisKeys,
    workspace: &mut Workspace,
) -> Result<Ciphertext, Error> {
    let (op, max) = ("sum of slots", a.parameters().degree() / 2);
    if !count.is_power_of_two() || count > max {
        return Err(Error::BadSlotCount {
            op,
            got: count,
            max,
        });
    }
    let (mut sum, mut turned) = (a.clone(), a.clone());
    for steps in sum_steps(stride, count) {
        let key = keys.rotation(op, steps)?;
        evaluator.apply_galois_into(&mut turned, &sum, key, workspace)?;
        evaluator.add_assign(&mut sum, &turned)?;
    }
    Ok(sum)
}

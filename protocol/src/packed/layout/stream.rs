//! Chunks that are cut wherever a polynomial is full.
//!
//! Whole samples leave a part of every polynomial empty: of 4096 coefficients, three images of
//! `33 x 33` use 3267. A stream lays all images of the batch end to end, as the sequence of
//! [`layout`](super), and cuts it through rows and images. Each channel has a block of
//! `P = floor(N / (n_c m_c))` coefficients.
//!
//! - `X` of chunk `b` has the elements `b A <= s < (b+1) A` with `A = P - L`, so `0 <= s' < P - L`:
//!   no element stands in two chunks, and the last `L` places of a block are empty.
//! - `D` has every `t` that meets one of them: `y[t]` contains `x[t + lag - off]`, so
//!   `t = s + off - lag` with `0 <= lag <= L`, that is `0 <= t' < P`. Outputs near an end stand in
//!   two chunks, and in more if `L > A`: a halo. `E = P - 1`.
//!
//! Write `(x, z)` for block `x`, place `z < P` in it; the exponents of a product add, and `z` may
//! carry into the next block.
//!
//! **Gradient.** A pair `(s, t)` of one chunk stands at block `m n_c + c`, place
//! `P - 1 - t' + s'`. It belongs to the tap of `lag = s - t + off = s' - t' + L`, and so to place
//! `P - 1 - L + lag`, between `P - 1 - L` and `P - 1`: where it is read. Every `s` is in one chunk
//! with all of its `t`, so that the sum over the chunks has every pair once. What carries into the
//! next block comes to a place of at most `s'_max - 1 = P - L - 2`, before the results; so does
//! what passes `N`, because `N >= n_c m_c P`.
//!
//! **Forward: overlap and add.** `x[s]` times the weight of a tap stands at place
//! `L - lag + s' = t'` of block `m n_c + n_c - 1 - c + c'`, with `t' < P`: nothing carries. For
//! `c = c'` this is block `m n_c + n_c - 1`; another `c'` is off by less than `n_c`, which no other
//! `m` makes good; and what passes `N` ends before block `n_c - 1`. So the place `t'` holds the sum
//! over those terms of `y[t]` whose `x` lies in the chunk, and the client, which adds the chunks,
//! has all of them. Each part is decoded by itself: the bounds of
//! [`exactness`](crate::plan::Plan::exactness) hold for parts as they do for sums, since
//! they are bounds on sums over any of the terms, and exact integers add without error.
//!
//! **Backward: overlap and save.** `dx[s] = sum K[lag] d[s + off - lag]`; with `s` in the chunk all
//! these `t` are in it. `d[t]` times the weight of a tap stands at place
//! `L - lag + P - 1 - t' = P - 1 - s'` of block `(m_c - 1 - m + m') n_c + c`: for `m = m'`, and `s`
//! of the chunk, between `L` and `P - 1`, where it is read. The other `s'`, from `-L` to `P - 1`,
//! come to places below `L` of this block or carry to places below `L` of the next. Another `m'` is
//! off by a multiple of `n_c` blocks, and by one more where it carries, then below `L`. What passes
//! `N` ends below place `L` of block `(m_c - 1) n_c`. So results are complete, no element is read
//! twice, and nothing is added.
//!
//! Chunks depend on shape and capacity alone. Rows that are padding, the margins and the end of the
//! last chunk are encrypted zeros, and the coefficients sent back are those of all `capacity`
//! rows.
//!
//! Overlap-add and overlap-save are the two classical ways to convolve a long sequence in blocks
//! (A. V. Oppenheim, R. W. Schafer, *Discrete-Time Signal Processing*, section on block
//! convolution); a negacyclic product has them as a cyclic one has, because the coefficients that
//! wrap are not read.
//!
//! ```
//! use sphinx_nn::conv::ConvShape;
//! use sphinx_nn::network::{ImageShape, LinearShape};
//! use sphinx_protocol::packed::layout::{Layout, Tiling};
//!
//! let input = ImageShape { channels: 3, height: 32, width: 32 };
//! let shape = ConvShape::new(input, 64, 3, 1, 1).map(LinearShape::conv).ok_or("a shape")?;
//! let (inputs_per_tile, outputs_per_tile) = (1, 1);
//! let whole = Tiling::Whole { inputs_per_tile, outputs_per_tile, samples_per_chunk: 3 };
//! let stream = Tiling::Stream { inputs_per_tile, outputs_per_tile };
//! let chunks = |tiling| Layout::new(4096, &shape, 315, tiling).map(|layout| layout.chunks());
//! assert_eq!((chunks(whole), chunks(stream)), (Some(105), Some(86)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

//! Small neural networks whose linear layers any engine can carry out.
//!
//! A network alternates *linear* layers with cheap steps (activation, pooling, loss). An
//! [engine] says how a linear layer is computed: in the clear, on an integer grid, or
//! under encryption at a server. Everything else is written once, here, and shared by all.
//!
//! | room | what it holds |
//! |---|---|
//! | [`tensor`], [`dense`], [`conv`] | row-major `f32` matrices; the three products of a dense layer and of a convolution |
//! | [`elementary`], [`activation`], [`pool`], [`between`], [`loss`], [`metrics`] | what happens between linear layers |
//! | [`network`], [`architectures`] | a description, and the checked network built from it |
//! | [`engine`], [`pass`] | the traits `Infer` and `Train`; one forward and backward pass |
//! | [`clear`], [`ghost`] | the float engine, with per-sample clipping: ghost norms for dense layers, explicit gradients for convolutions |
//! | [`optim`], [`init`] | momentum SGD; Glorot initialisation |
//! | [`gradient_check`] | central differences against any engine |
//! | [`scatter`], [`features`] | fixed wavelet features, normalised within each record |
//! | [`data`], [`augment`] | IDX files (MNIST and its kin), CIFAR-10, the procedural sets synth-digits and synth-shapes; shifted and mirrored views |
//!
//! Results never depend on the number of threads: work is split into blocks whose size depends
//! on the shapes alone, and the order of additions within a block is fixed. They can differ in
//! the last bit between processors, because the matrix product picks its kernel by CPU.
//!
//! # Limits
//!
//! Dense layers and two-dimensional convolutions, no normalisation layers, `f32` only, no GPU, class labels in one byte.
//!
//! # Example
//!
//! ```
//! use sphinx_nn::clear::{Clear, ClearConfig};
//! use sphinx_nn::engine::Train;
//! use sphinx_nn::{architectures, data, init, metrics, network::Network, pass};
//!
//! let set = data::synth_digits::generate(1, 64);
//! let architecture = architectures::by_name("mlp", set.shape, set.classes).unwrap();
//! let network = Network::new(&architecture).unwrap();
//! let config = ClearConfig {
//!     clip_bound: Some(1.0),
//!     learning_rate: 0.5,
//!     momentum: 0.9,
//!     divisor: 64.0,
//!     shift: 20,
//! };
//! let mut engine = Clear::new(&network, init::glorot(&network, 7), config).unwrap();
//!
//! let labels: Vec<_> = set.labels.iter().copied().map(Some).collect();
//! for step in 0..5 {
//!     engine.begin(step, 64).unwrap();
//!     let pass = pass::gradients(&mut engine, &network, &set.images, &labels).unwrap();
//!     let sum = engine.collect(pass.pending).unwrap();
//!     engine.apply(&sum.values, sum.shift).unwrap(); // DP-SGD would add noise here
//! }
//! let logits = pass::infer(&mut engine, &network, &set.images).unwrap();
//! assert!(metrics::accuracy(&logits, &set.labels) > 0.2);
//! ```

pub mod activation;
pub mod architectures;
pub mod augment;
pub mod between;
pub mod clear;
pub mod conv;
pub mod data;
pub mod dense;
pub mod elementary;
pub mod engine;
pub mod features;
mod gemm;
pub mod ghost;
pub mod gradient_check;
pub mod init;
pub mod loss;
pub mod matching;
pub mod metrics;
pub mod network;
pub mod norm;
pub mod optim;
pub mod pass;
pub mod pool;
pub mod prepared;
pub mod scatter;
pub mod tensor;

pub use activation::Activation;
pub use clear::{Clear, ClearConfig};
pub use data::{DataError, Dataset, LoadOptions, Split};
pub use engine::{GradientSum, Infer, Train};
pub use network::{
    Architecture, ArchitectureError, ImageShape, LayerSpec, LinearKind, LinearShape, Network,
    ParameterSpan,
};
pub use pass::Pass;
pub use tensor::{ShapeError, Tensor};

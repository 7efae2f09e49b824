use super::*;
use crate::engine::GradientSum;
use crate::network::{Architecture, ImageShape, LayerSpec};
use std::convert::Infallible;

/// Writes down what it is asked for; its layers hand back constants.
struct Scribe {
    widths: Vec<(usize, usize)>,
    calls: Vec<String>,
}

impl Scribe {
    fn filled(rows: usize, columns: usize) -> Tensor {
        Tensor::from_vec(rows, columns, vec![0.5; rows * columns]).unwrap()
    }
}

impl Infer for Scribe {
    type Error = Infallible;
    fn forward(&mut self, layer: usize, x: &Tensor) -> Result<Tensor, Infallible> {
        assert_eq!(x.columns(), self.widths[layer].0);
        self.calls.push(format!("forward {layer}"));
        Ok(Self::filled(x.rows(), self.widths[layer].1))
    }
}

impl Train for Scribe {
    type Held = usize;
    type Pending = usize;
    fn begin(&mut self, _: u64, _: usize) -> Result<(), Infallible> {
        self.calls.push("begin".into());
        Ok(())
    }
    fn forward_held(&mut self, layer: usize, x: &Tensor) -> Result<(Tensor, usize), Infallible> {
        Ok((self.forward(layer, x)?, layer))
    }
    fn backward(&mut self, layer: usize, d: &Tensor, held: &usize) -> Result<Tensor, Infallible> {
        assert_eq!((*held, d.columns()), (layer, self.widths[layer].1));
        self.calls.push(format!("backward {layer}"));
        Ok(Self::filled(d.rows(), self.widths[layer].0))
    }
    fn submit_gradient(
        &mut self,
        layer: usize,
        d: &Tensor,
        held: usize,
    ) -> Result<usize, Infallible> {
        assert_eq!((held, d.columns()), (layer, self.widths[layer].1));
        self.calls.push(format!("gradient {layer} {:?}", d.row(0)));
        Ok(layer)
    }
    fn collect(&mut self, _: Vec<usize>) -> Result<GradientSum, Infallible> {
        self.calls.push("collect".into());
        Ok(GradientSum {
            values: Vec::new(),
            shift: 0,
            norms_squared: Vec::new(),
        })
    }
}

fn scribe() -> (Network, Scribe) {
    let dense = |outputs| LayerSpec::Dense { outputs };
    let network = Network::new(&Architecture {
        name: "three".into(),
        input: ImageShape {
            channels: 1,
            height: 1,
            width: 4,
        },
        layers: vec![
            dense(3),
            LayerSpec::Relu,
            dense(1),
            LayerSpec::Relu,
            dense(2),
        ],
    })
    .unwrap();
    (
        network,
        Scribe {
            widths: vec![(4, 3), (3, 1), (1, 2)],
            calls: Vec::new(),
        },
    )
}

/// Forward first to last, gradients last to first, no backward into the data, and neither
/// `begin`, `collect` nor `apply`, which belong to the loop.
#[test]
fn an_engine_is_called_in_the_promised_order() {
    let (network, mut engine) = scribe();
    let pass = gradients(&mut engine, &network, &Tensor::zeros(1, 4), &[Some(1)]).unwrap();
    assert_eq!(
        engine.calls,
        [
            "forward 0",
            "forward 1",
            "forward 2",
            "backward 2",
            "gradient 2 [0.5, -0.5]",
            "backward 1",
            "gradient 1 [0.5]",
            "gradient 0 [0.5, 0.5, 0.5]",
        ]
    );
    assert_eq!(pass.pending, [2, 1, 0]);
    assert!((pass.loss - 2.0_f64.ln()).abs() < 1e-7);
    assert_eq!(pass.correct, 0); // a tie goes to the first class
}

/// A padding row looks like any other to the engine, but its loss gradient is zero.
#[test]
fn padding_rows_cost_the_same_calls() {
    let (network, mut engine) = scribe();
    let pass = gradients(&mut engine, &network, &Tensor::zeros(1, 4), &[None]).unwrap();
    assert_eq!(engine.calls.len(), 8);
    assert_eq!(engine.calls[4], "gradient 2 [0.0, 0.0]");
    assert_eq!((pass.loss, pass.correct), (0.0, 0));
}

#[test]
fn inference_only_goes_forward() {
    let (network, mut engine) = scribe();
    let logits = infer(&mut engine, &network, &Tensor::zeros(2, 4)).unwrap();
    assert_eq!((logits.rows(), logits.columns()), (2, 2));
    assert_eq!(engine.calls, ["forward 0", "forward 1", "forward 2"]);
}

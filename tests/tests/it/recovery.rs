//! A connection that dies between an update and its confirmation loses nothing.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_nn::network::LayerSpec;
use sphinx_protocol::Error;
use sphinx_protocol::grid::{Engine, Multiplier};
use sphinx_protocol::link::Link;
use sphinx_protocol::message::{ModelId, Refusal};
use sphinx_protocol::model::Replica;
use sphinx_protocol::packed::Packed;
use sphinx_protocol::party::Hub;
use sphinx_protocol::plan::Plan;
use sphinx_protocol::train::Learn;
use sphinx_protocol::transport::Outgoing;
use sphinx_tests::fixture::{
    architecture, choices, hub, local, random_data, serve_in_process, toy_plan, train, train_from,
};

/// Sends everything but the first update, then is dead.
struct LosesUpdate(Box<dyn Outgoing>);

impl Outgoing for LosesUpdate {
    fn send(&mut self, content: &[u8]) -> Result<(), Error> {
        // The kind of an update.
        if content.first() == Some(&0x14) {
            self.0.close();
            return Err(Error::Disconnected("losing an update"));
        }
        self.0.send(content)
    }

    fn close(&mut self) {
        self.0.close();
    }
}

fn open(plan: &Plan, hub: &Arc<Hub>, replica: &Replica, lossy: bool) -> Engine<Packed> {
    for _ in 0..200 {
        let mut wire = serve_in_process(hub, None);
        if lossy {
            wire.outgoing = Box::new(LosesUpdate(wire.outgoing));
        }
        let link = Link::greet(wire).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        match Packed::open(link, ModelId([1; 16]), plan, replica.clone(), &mut rng) {
            Ok(packed) => return Engine::new(packed),
            // The server has not noticed yet that the other connection is gone.
            Err(Error::Refused {
                reason: Refusal::Busy,
                ..
            }) => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the model of {plan:?} was never freed");
}

/// A trainer whose engine survives the failed step: what a client keeps.
struct Keeping<'a>(&'a mut Engine<Packed>);

impl sphinx_nn::Infer for Keeping<'_> {
    type Error = Error;
    fn forward(&mut self, layer: usize, x: &sphinx_nn::Tensor) -> Result<sphinx_nn::Tensor, Error> {
        self.0.forward(layer, x)
    }
}

impl sphinx_nn::Train for Keeping<'_> {
    type Held = <Engine<Packed> as sphinx_nn::Train>::Held;
    type Pending = <Engine<Packed> as sphinx_nn::Train>::Pending;
    fn begin(&mut self, step: u64, capacity: usize) -> Result<(), Error> {
        self.0.begin(step, capacity)
    }
    fn forward_held(
        &mut self,
        layer: usize,
        x: &sphinx_nn::Tensor,
    ) -> Result<(sphinx_nn::Tensor, Self::Held), Error> {
        self.0.forward_held(layer, x)
    }
    fn backward(
        &mut self,
        layer: usize,
        d: &sphinx_nn::Tensor,
        held: &Self::Held,
    ) -> Result<sphinx_nn::Tensor, Error> {
        self.0.backward(layer, d, held)
    }
    fn submit_gradient(
        &mut self,
        layer: usize,
        d: &sphinx_nn::Tensor,
        held: Self::Held,
    ) -> Result<Self::Pending, Error> {
        self.0.submit_gradient(layer, d, held)
    }
    fn collect(&mut self, pending: Vec<Self::Pending>) -> Result<sphinx_nn::GradientSum, Error> {
        self.0.collect(pending)
    }
}

impl Learn for Keeping<'_> {
    fn clip_bound(&self) -> Result<sphinx_dp::mechanism::ClipBound, Error> {
        self.0.clip_bound()
    }
    fn learn(&mut self, noised: &sphinx_dp::mechanism::Noised) -> Result<(), Error> {
        self.0.learn(noised)
    }
}

#[test]
fn a_lost_update_is_sent_again_with_the_same_bytes() {
    let plan = toy_plan(&choices(architecture(8, &[(4, LayerSpec::Tanh)], 3), 16), 7);
    let data = random_data(20, 8, 3, 2);
    let hub = hub();
    let mut lossy = open(&plan, &hub, &Replica::initial(plan.grid()), true);
    let failed = train(Keeping(&mut lossy), &plan, &data, 1, Some(1.0), 2);
    assert!(matches!(failed, Err(Error::Disconnected(_))));
    // The release was charged and the replica has moved on; the server has not.
    let replica = lossy.multiplier().replica().clone();
    assert_eq!(replica.public().step(), 1);
    drop(lossy);
    let again = open(&plan, &hub, &replica, false);
    let again = train_from(again, &plan, &data, 1, 1, Some(1.0), 3).unwrap();
    let clear = train(local(&plan), &plan, &data, 1, Some(1.0), 2).unwrap();
    let clear = train_from(clear, &plan, &data, 1, 1, Some(1.0), 3).unwrap();
    assert_eq!(
        again.multiplier().replica().public().version(),
        clear.multiplier().replica().public().version()
    );
}

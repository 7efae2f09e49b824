"""Times PyTorch and ONNX Runtime on the steps of `step.rs`, with two threads.

    python peers.py [minionn-mnist | minionn-cifar10 | linear]

Medians of wall time after two warm-up calls, in milliseconds.
"""

import os
import statistics
import sys
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "2")
import numpy as np
import onnxruntime
import torch
import torch.nn as nn
from torch.func import functional_call, grad, vmap

torch.set_num_threads(2)
torch.manual_seed(1)
ONLY = sys.argv[1] if len(sys.argv) > 1 else ""


def median(what, call, seconds=3.0, most=2000):
    call()
    call()
    times, begun = [], time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - begun < seconds and len(times) < most):
        t = time.perf_counter()
        call()
        times.append(time.perf_counter() - t)
    print(f"{what}: {1e3 * statistics.median(times):.4f} ms ({len(times)} runs)", flush=True)


def mnist():
    relu, halve = nn.ReLU, lambda: nn.MaxPool2d(2)
    return nn.Sequential(
        nn.Conv2d(1, 16, 5), relu(), halve(), nn.Conv2d(16, 16, 5), relu(), halve(),
        nn.Flatten(), nn.Linear(256, 100), relu(), nn.Linear(100, 10),
    )


def cifar():
    relu, halve = nn.ReLU, lambda: nn.AvgPool2d(2)

    def wide(inputs=64):
        return nn.Conv2d(inputs, 64, 3, padding=1)

    return nn.Sequential(
        wide(3), relu(), wide(), relu(), halve(), wide(), relu(), wide(), relu(), halve(),
        wide(), relu(), nn.Conv2d(64, 64, 1), relu(), nn.Conv2d(64, 16, 1), relu(),
        nn.Flatten(), nn.Linear(1024, 10),
    )


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(3969, 10))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)


def plain(name, make, shape, rows):
    model = make().to(memory_format=torch.channels_last)
    optimiser, loss = sgd(model), nn.CrossEntropyLoss()
    x, y = torch.rand(rows, *shape), torch.arange(rows) % 10
    if len(shape) == 3:
        x = x.contiguous(memory_format=torch.channels_last)

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss(model(x), y).backward()
        optimiser.step()

    median(f"{name}: torch plain step, batch {rows}", step)
    with torch.inference_mode():
        median(f"{name}: torch inference, batch {rows}", lambda: model(x))
        one = x[:1].contiguous()
        median(f"{name}: torch inference of one image", lambda: model(one))


def private(name, make, shape, rows):
    """Per-sample gradients by torch.func, flat clipping to 1, no noise (as ours), SGD."""
    model = make()
    optimiser = sgd(model)
    parameters = dict(model.named_parameters())
    x, y = torch.rand(rows, *shape), torch.arange(rows) % 10

    def loss(p, image, label):
        z = functional_call(model, p, (image.unsqueeze(0),))
        return nn.functional.cross_entropy(z, label.unsqueeze(0))

    per_sample = vmap(grad(loss), in_dims=(None, 0, 0))

    def step():
        detached = {k: v.detach() for k, v in parameters.items()}
        gradients = per_sample(detached, x, y)
        norms = sum(g.flatten(1).square().sum(1) for g in gradients.values()).sqrt()
        factors = (1.0 / norms).clamp(max=1.0)
        for k, g in gradients.items():
            parameters[k].grad = torch.einsum("b,b...->...", factors, g) / rows
        optimiser.step()

    median(f"{name}: torch.func private step, batch {rows}", step)


def ghost_linear(rows):
    """The linear model by hand: norms in closed form, two products."""
    layer = nn.Linear(3969, 10)
    optimiser = sgd(layer)
    x, y = torch.rand(rows, 3969), torch.arange(rows) % 10

    @torch.no_grad()
    def step():
        d = torch.softmax(layer(x), 1)
        d[torch.arange(rows), y] -= 1.0
        norms = (d.square().sum(1) * (x.square().sum(1) + 1.0)).sqrt()
        d *= (1.0 / norms).clamp(max=1.0).unsqueeze(1)
        layer.weight.grad, layer.bias.grad = d.T @ x / rows, d.sum(0) / rows
        optimiser.step()

    median(f"linear: torch private step by hand (ghost norms), batch {rows}", step)


def served(name, make, shape, rows):
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        names = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
        torch.onnx.export(make().eval(), torch.rand(1, *shape), file.name, dynamo=False, **names)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        session = onnxruntime.InferenceSession(file.name, options)
    for count in (1, rows):
        feed = {"x": np.random.rand(count, *shape).astype(np.float32)}
        what = "of one image" if count == 1 else f"batch {count}"
        median(f"{name}: onnxruntime inference, {what}", lambda: session.run(None, feed))


for name, make, shape, rows in (
    ("minionn-mnist", mnist, (1, 28, 28), 500),
    ("minionn-cifar10", cifar, (3, 32, 32), 200),
    ("linear", linear, (3969,), 8192),
):
    if ONLY and ONLY not in name:
        continue
    plain(name, make, shape, rows)
    private(name, make, shape, rows)
    served(name, make, shape, rows)
if not ONLY or ONLY in "linear":
    ghost_linear(8192)

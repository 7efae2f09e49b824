"""Writes vectors.json: what PyTorch, in double precision, computes for the networks of this crate.

    python make.py > vectors.json

Parameters, images and targets come from an integer formula that the test repeats; they are rounded
to single precision once, so that both sides start from the same numbers.
"""

import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def noise(length, seed):
    """Values in [-1, 1): a multiplicative hash of the position."""
    i = np.arange(length, dtype=np.uint64)
    x = ((i ^ (seed * 0x9E3779B9 % 2**32)) * 2654435761) % 2**32
    x ^= x >> 15
    return x.astype(np.float64) / 2.0**31 - 1.0


def single(values):
    return torch.tensor(values.astype(np.float32).astype(np.float64))


def parameters_of(architecture):
    """Per layer with parameters: a list of tensors in the order of the flat vector."""
    c, h, w = (architecture["input"][k] for k in ("channels", "height", "width"))
    made, seed = [], 100

    def draw(shape, scale, shift=0.0):
        nonlocal seed
        seed += 1
        values = noise(math.prod(shape), seed) * scale + shift
        return single(values).reshape(shape).requires_grad_()

    for layer in architecture["layers"]:
        kind = layer["kind"]
        if kind == "dense":
            n, o = c * h * w, layer["outputs"]
            scale = 2.0 ** -round(math.log2(math.sqrt(n)))
            made.append([draw((o, n), scale), draw((o,), 0.0625)])
            c, h, w = o, 1, 1
        elif kind == "conv":
            o, k, s, p = (layer[x] for x in ("channels", "kernel", "stride", "padding"))
            scale = 2.0 ** -round(math.log2(math.sqrt(c * k * k)))
            made.append([draw((o, c, k, k), scale), draw((o,), 0.0625)])
            c, h, w = o, (h + 2 * p - k) // s + 1, (w + 2 * p - k) // s + 1
        elif kind == "group-norm" and layer["affine"]:
            made[-1] += [draw((c,), 0.25, 1.0), draw((c,), 0.25)]
        elif kind in ("max-pool", "avg-pool"):
            k, s = layer["size"], layer["stride"]
            h, w = (h - k) // s + 1, (w - k) // s + 1
    return made


def forward(architecture, parameters, x):
    activations = {
        "relu": torch.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "square": torch.square,
    }
    groups = iter(parameters)
    current = None
    for layer in architecture["layers"]:
        kind = layer["kind"]
        if kind == "dense":
            current = next(groups)
            x = F.linear(x.flatten(1), current[0], current[1])
        elif kind == "conv":
            current = next(groups)
            x = F.conv2d(x, current[0], current[1], layer["stride"], layer["padding"])
        elif kind == "group-norm":
            scale, shift = current[2:] if layer["affine"] else (None, None)
            x = F.group_norm(x, layer["groups"], scale, shift, 1e-5)
        elif kind == "max-pool":
            x = F.max_pool2d(x, layer["size"], layer["stride"])
        elif kind == "avg-pool":
            x = F.avg_pool2d(x, layer["size"], layer["stride"])
        else:
            x = activations[kind](x)
    return x


def loss_of(name, z, labels):
    if name == "cross-entropy":
        return F.cross_entropy(z, labels, reduction="sum")
    return 0.5 * ((z - F.one_hot(labels, z.shape[1])) ** 2).sum()


def summary(values):
    """Norm, sum, largest size, and a few entries of a tensor."""
    values = values.detach().flatten()
    step = max(1, len(values) // 9)
    places = sorted({0, len(values) - 1, *range(step // 2, len(values), step)})[:12]
    return {
        "length": len(values),
        "norm": values.norm().item(),
        "sum": values.sum().item(),
        "largest": values.abs().max().item(),
        "entries": [[i, values[i].item()] for i in places],
    }


def case(name, architecture, rows, loss):
    shape = [architecture["input"][k] for k in ("channels", "height", "width")]
    parameters = parameters_of(architecture)
    flat = [p for group in parameters for p in group]
    x = single(noise(rows * math.prod(shape), 7)).reshape(rows, *shape).requires_grad_()
    z = forward(architecture, parameters, x)
    classes = z.shape[1]
    labels = torch.tensor([(3 * i + 1) % classes for i in range(rows)])
    total = loss_of(loss, z, labels)
    gradient = torch.autograd.grad(total, flat, create_graph=True)
    norms = []
    for i in range(rows):
        one = loss_of(loss, forward(architecture, parameters, x[i : i + 1]), labels[i : i + 1])
        norms.append(math.sqrt(sum((g**2).sum().item() for g in torch.autograd.grad(one, flat))))
    count = sum(len(p.flatten()) for p in flat)
    target = single(noise(count, 13) * 0.125)
    apart = torch.cat([g.flatten() for g in gradient]) - target
    distance = (apart**2).sum()
    (pull,) = torch.autograd.grad(distance, x)
    return {
        "name": name,
        "architecture": architecture,
        "rows": rows,
        "loss": loss,
        "logits": z.flatten().tolist(),
        "total_loss": total.item(),
        "gradients": [summary(g) for g in gradient],
        "sample_norms": norms,
        "matching_distance": distance.item(),
        "matching_pull": summary(pull),
    }


def dense(outputs):
    return {"kind": "dense", "outputs": outputs}


def conv(channels, kernel, stride=1, padding=0):
    return {"kind": "conv", "channels": channels, "kernel": kernel, "stride": stride, "padding": padding}


def pool(kind, size, stride):
    return {"kind": kind, "size": size, "stride": stride}


def norm(groups, affine):
    return {"kind": "group-norm", "groups": groups, "affine": affine}


def only(kind):
    return {"kind": kind}


def network(name, shape, layers):
    return {"name": name, "input": dict(zip(("channels", "height", "width"), shape)), "layers": layers}


def cases():
    image = (2, 7, 9)
    stacks = {
        "dense": [dense(5)],
        "dense-relu": [dense(7), only("relu"), dense(5)],
        "dense-tanh": [dense(7), only("tanh"), dense(5)],
        "dense-sigmoid": [dense(7), only("sigmoid"), dense(5)],
        "dense-square": [dense(7), only("square"), dense(5)],
        "conv": [conv(5, 3), only("tanh"), dense(5)],
        "conv-stride": [conv(5, 3, 2, 1), only("tanh"), conv(6, 3, 2, 2), only("relu"), dense(5)],
        "conv-padding": [conv(5, 3, 1, 2), only("sigmoid"), conv(17, 2, 1, 1), only("tanh"), dense(5)],
        "max-pool": [conv(5, 3, 1, 1), only("tanh"), pool("max-pool", 2, 2), dense(5)],
        "max-pool-overlap": [conv(5, 3, 1, 1), only("tanh"), pool("max-pool", 3, 1), dense(5)],
        "avg-pool": [conv(5, 3, 1, 1), only("square"), pool("avg-pool", 2, 2), conv(4, 1), only("tanh"), dense(5)],
        "group-norm": [conv(6, 3, 1, 1), norm(2, True), only("tanh"), pool("avg-pool", 2, 2), dense(5)],
        "layer-norm": [conv(6, 3), norm(1, False), only("relu"), dense(8), norm(4, True), only("tanh"), dense(5)],
    }
    for name, layers in stacks.items():
        for loss in ("cross-entropy", "squared-error"):
            yield case(name, network(name, image, layers), 4, loss)
    halve = pool("max-pool", 2, 2)
    relu = only("relu")
    mnist = [conv(16, 5), relu, halve, conv(16, 5), relu, halve, dense(100), relu, dense(10)]
    yield case("minionn-mnist", network("minionn-mnist", (1, 28, 28), mnist), 3, "cross-entropy")
    halve = pool("avg-pool", 2, 2)
    wide = [conv(64, 3, 1, 1), relu]
    cifar = [*wide, *wide, halve, *wide, *wide, halve, *wide, conv(64, 1), relu, conv(16, 1), relu, dense(10)]
    yield case("minionn-cifar10", network("minionn-cifar10", (3, 32, 32), cifar), 2, "cross-entropy")


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, list):
        return [rounded(v) for v in value]
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return value


lines = ",\n".join(json.dumps(rounded(c), separators=(",", ":")) for c in cases())
sys.stdout.write("[\n" + lines + "\n]\n")

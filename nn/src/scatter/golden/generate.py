"""Golden vectors of the scattering transform, from Kymatio's numpy backend.

    pip install kymatio==0.3.0 numpy scipy
    python generate.py > kymatio.csv

Images are given by formulas in integers, so the Rust test rebuilds the same bytes. A row holds one
output channel: its sum, its sum of squares, and its values at the first, the middle and the last
position of the map.
"""
import sys

import numpy as np
import scipy.special

if not hasattr(scipy.special, "sph_harm"):  # gone from SciPy 1.17; the 3-D transform alone uses it
    scipy.special.sph_harm = None
from kymatio.numpy import Scattering2D


def pattern(height, width, channel):
    """Smooth in places, full of edges in others: products of coordinates modulo 256."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    return (x * x * 7 + y * y * 13 + x * y * 5 + 31 * channel) % 256


def noise(height, width, channel):
    """The high bytes of a linear congruential generator, row by row."""
    state, values = 12345 + channel, []
    for _ in range(height * width):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append(state >> 56)
    return np.array(values).reshape(height, width)


CASES = [
    # name, scales, angles, height, width, image, channels
    ("pattern-28", 2, 8, 28, 28, pattern, 1),
    ("noise-28", 2, 8, 28, 28, noise, 1),
    ("pattern-colour-32", 2, 8, 32, 32, pattern, 3),
    ("noise-32-three-scales", 3, 8, 32, 32, noise, 1),
    ("pattern-oblong", 2, 6, 24, 32, pattern, 1),
]


def main(out):
    print("case,channel,sum,squares,first,middle,last", file=out)
    for name, scales, angles, height, width, image, channels in CASES:
        transform = Scattering2D(scales, (height, width), L=angles)
        planes = np.stack([image(height, width, c) for c in range(channels)]) / 255.0
        maps = transform(planes)
        maps = maps.reshape(-1, *maps.shape[-2:])
        for channel, values in enumerate(maps):
            rows, columns = values.shape
            picked = [
                values.sum(),
                (values**2).sum(),
                values[0, 0],
                values[rows // 2, columns // 2],
                values[-1, -1],
            ]
            print(name, channel, *(f"{v:.8g}" for v in picked), sep=",", file=out)


main(sys.stdout)

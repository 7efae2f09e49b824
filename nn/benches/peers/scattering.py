"""Kymatio's scattering under jax.jit, the fastest of its backends, in batches of 128.

    pip install numpy scipy jax kymatio
    python nn/benches/peers/scattering.py

Medians of the wall time per image after two calls that do not count (compilation). Kymatio 0.3 asks
scipy for a name that scipy 1.17 no longer has; nothing of the two-dimensional transform uses it.
"""

import statistics
import time

import scipy.special

if not hasattr(scipy.special, "sph_harm"):
    scipy.special.sph_harm = None

import jax
import numpy as np
from kymatio.jax import Scattering2D

BATCH = 128

for channels, side in ((1, 28), (3, 32)):
    images = np.random.default_rng(1).random((BATCH, channels, side, side), dtype=np.float32)
    transform = jax.jit(Scattering2D(J=2, shape=(side, side), L=8))
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        transform(images).block_until_ready()
        times.append(time.perf_counter() - begin)
    per_image = 1e3 * statistics.median(times[2:]) / BATCH
    print(f"{channels} x {side} x {side}: {per_image:.3f} ms per image")
print("jax", jax.__version__, "numpy", np.__version__, "scipy", scipy.__version__)

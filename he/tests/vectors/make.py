"""Writes slots.txt: encodings computed from the definition with 60 digits.

    pip install mpmath==1.3.0
    python3 make.py > slots.txt

Nothing here is shared with the crate: slot j of a polynomial m is m(exp(i pi 5^j / N)); with n slots
in a ring of degree N the polynomial is one in X^(N / 2n). Coefficients are the inverse of that map,
times the scale, rounded to nearest. Automorphisms substitute X^g in the integer polynomial.
"""

from mpmath import mp, mpc, mpf, expjpi, nint

mp.dps = 60


def values(count, seed):
    """Dyadic numbers in (-1, 1), exact in double precision."""
    out = []
    for _ in range(count):
        pair = []
        for _ in range(2):
            seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
            pair.append((seed >> 34) / 2**29 - 1)
        out.append(complex(*pair))
    return out


def encode(slots, scale):
    n = len(slots)
    size = 2 * n
    out = []
    for i in range(size):
        total = mpf(0)
        for j, z in enumerate(slots):
            e = pow(5, j, 2 * size)
            total += (mpc(z.real, z.imag) * expjpi(mpf(-e * i % (2 * size)) / size)).real
        out.append(int(nint(2 * total / size * scale)))
    return out


def decode(coefficients, scale):
    size = len(coefficients)
    out = []
    for j in range(size // 2):
        e = pow(5, j, 2 * size)
        total = mpc(0)
        for i, m in enumerate(coefficients):
            total += m * expjpi(mpf(e * i % (2 * size)) / size)
        out.append(total / scale)
    return out


def substitute(coefficients, g):
    size = len(coefficients)
    out = [0] * size
    for i, m in enumerate(coefficients):
        power = i * g % (2 * size)
        out[power % size] = m if power < size else -m
    return out


def line(name, numbers):
    print(name, *numbers)


for log_n, count, log_scale, seed in [(3, 4, 30, 1), (5, 16, 40, 2), (5, 4, 40, 3), (7, 64, 45, 4)]:
    size = 2**log_n
    slots = values(count, seed)
    dense = encode(slots, 2**log_scale)
    gap = size // len(dense)
    coefficients = [0] * size
    coefficients[::gap] = dense
    line("case", [log_n, count, log_scale])
    line("slots", [repr(part) for z in slots for part in (z.real, z.imag)])
    line("coefficients", coefficients)
    back = decode(dense, 2**log_scale)
    line("values", [mp.nstr(part, 25) for z in back for part in (z.real, z.imag)])
    for steps in [1, 3, count - 1]:
        line(f"rotated {steps}", substitute(coefficients, pow(5, steps, 2 * size)))
    line("conjugated", substitute(coefficients, 2 * size - 1))

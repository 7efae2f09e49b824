"""Writes audit.csv: p-values and lower bounds of one-run audits, by mpmath at 50 digits.

The binomial tail is the regularised incomplete beta function, not a sum, and the bound is found by
bisection on a fine grid, so that neither shares code or method with the crate.
Run: python3 audit.py > audit.csv    (mpmath 1.3)
"""
from mpmath import mp, mpf, betainc, binomial, exp, floor

mp.dps = 50


def p_value(m, r, v, eps, delta):
    q = 1 / (1 + exp(-mpf(eps)))
    tail = mpf(1) if v == 0 else betainc(v, r - v + 1, 0, q, regularized=True)
    # The largest probability of any count among j trials is that of floor((j + 1) q).
    best = mpf(0)
    for j in range(r):
        k = int(floor((j + 1) * q))
        best += binomial(j, k) * q**k * (1 - q) ** (j - k)
    best = best / r if r > 0 else mpf(0)
    return min(mpf(1), tail + m * mpf(delta) * (1 - q) * best)


def bound(m, r, v, delta, confidence):
    # The largest epsilon that is refuted: whatever is below it is refuted with it.
    level = 1 - mpf(confidence)
    step = mpf(1) / 16
    low = 8 - step
    while p_value(m, r, v, low, delta) > level:
        if low <= 0:
            return mpf(0)
        low = max(low - step, mpf(0))
    high = low + step
    for _ in range(50):
        middle = (low + high) / 2
        if p_value(m, r, v, middle, delta) <= level:
            low = middle
        else:
            high = middle
    return low


print("canaries,guesses,correct,epsilon,delta,p_value,confidence,bound")
CASES = [
    (100, 100, 60, 0.5, 0.0, 0.95),
    (100, 100, 100, 3.0, 0.0, 0.95),
    (1000, 200, 190, 2.0, 1e-5, 0.95),
    (1000, 200, 190, 2.0, 1e-3, 0.95),
    (1000, 1000, 550, 0.1, 1e-6, 0.95),
    (1000, 50, 50, 1.0, 1e-5, 0.99),
    (5000, 400, 395, 4.0, 1e-5, 0.99),
    (5000, 400, 210, 0.2, 1e-5, 0.95),
    (20, 0, 0, 1.0, 1e-5, 0.95),
    (20, 20, 0, 1.0, 0.0, 0.95),
    (10000, 2000, 1900, 3.0, 1e-5, 0.9),
]
for m, r, v, eps, delta, confidence in CASES:
    p = mp.nstr(p_value(m, r, v, eps, delta), 20)
    b = mp.nstr(bound(m, r, v, delta, confidence), 20)
    print(f"{m},{r},{v},{eps},{delta},{p},{confidence},{b}")

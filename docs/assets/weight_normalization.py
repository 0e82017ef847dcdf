"""Prints the table of weight normalization: `python docs/assets/weight_normalization.py`."""

import jax
import jax.numpy as jnp
import numpy as np

import ddln

SAMPLES, DIM = 20, 40
SCALES, RATES = (1.0, 0.3, 0.1, 0.03), (1.0, 0.1, 0.01)


def problem():
    """A sparse regression: 3 of the coordinates are not zero."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(SAMPLES, DIM)) / np.sqrt(SAMPLES)
    theta = np.zeros(DIM)
    theta[:3] = 1, 0.8, 0.6
    return X, X @ theta


def difference(w):
    """theta = p^2 - q^2 with w = (p, q)."""
    return ddln.PowerDifference(w[:DIM], w[DIM:], 2)


def main():
    jax.config.update("jax_enable_x64", True)
    X, y = problem()
    loss = ddln.LeastSquares(X, y)

    def cell(start):
        flow = ddln.gradient_flow(start, loss, 1e5, rtol=1e-7, event=ddln.LossBelow(1e-8))
        excess = float(ddln.excess_l1(flow.theta[-1], X, y))
        return f"{float(flow.ts[-1]):.2g}, {100 * excess:.2g} %"

    rates = " | ".join(f"rate {rate}" for rate in RATES)
    print(f"| scale | plain: time, excess | {rates} |\n| --- | --- |{' --- |' * len(RATES)}")
    for scale in SCALES:
        w = scale * jnp.ones(2 * DIM)
        size = jnp.linalg.norm(w)
        normalized = ddln.WeightNorm(size, w / size)
        cells = [cell(difference(w))]
        for rate in RATES:
            inner = ddln.LearningRates(normalized, (rate, 1.0))
            cells.append(cell(ddln.Composed(difference, inner)))
        print(f"| {scale} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

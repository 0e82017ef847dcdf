"""Deep diagonal trajectories integrated by SciPy, as batched `Trajectory` objects."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from ddln import RESULTS, DeepDiagonal, LeastSquares
from ddln.flows import Trajectory
from ddln.flows.states import FullSpace

# Here the time to compile counts, not the time to run.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

RTOL, ATOL = 1e-11, 1e-13
N, D = 7, 5


@dataclasses.dataclass
class Case:
    """One problem and its start, in NumPy."""

    X: np.ndarray
    y: np.ndarray
    layers: np.ndarray
    scale: float = 0.5

    def gradient(self, theta):
        return 2 * self.scale * self.X.T @ (self.X @ theta - self.y)

    def loss(self, theta):
        return self.scale * np.sum((theta @ self.X.T - self.y) ** 2, axis=-1)

    def solve(self, ts):
        """Layers and dual as one state: the solution object of SciPy, with dense output."""
        depth, dim = self.layers.shape
        others = np.array([np.delete(np.arange(depth), j) for j in range(depth)])

        def field(t, state):
            layers = state[:-dim].reshape(depth, dim)
            slopes = layers[others].prod(axis=1)
            g = self.gradient(slopes[0] * layers[0])
            return np.concatenate([-(slopes * g).ravel(), -g])

        start = np.concatenate([self.layers.ravel(), np.zeros(dim)])
        return solve_ivp(
            field, (0, ts[-1]), start, "DOP853", ts, dense_output=True, rtol=RTOL, atol=ATOL
        )


def metric(layers):
    """The diagonal of M from its definition, for layers [..., L, d]."""
    depth = layers.shape[-2]
    others = [np.delete(layers, j, axis=-2) for j in range(depth)]
    return np.sum([np.prod(rows**2, axis=-2) for rows in others], axis=0)


def problem(rng, kind):
    """X and y with N rows and D columns; fewer samples are rows of zeros."""
    X = rng.standard_normal((N, D)) / np.sqrt(D)
    if kind == "underdetermined":
        X[3:] = 0
    elif kind == "square":
        X[D:] = 0
    elif kind == "rank deficient":
        X[:, 1] = X[:, 0]
    y = X @ np.array([1.0, -1.0, 0.5, 0.0, 0.0])
    if kind == "noisy":
        y += rng.standard_normal(N)
    return X, y


KINDS = ("underdetermined", "square", "overdetermined", "noisy", "rank deficient")


def random_cases(depth, scale=1.0, seed=0):
    """One case of each kind, from random layers; the loss has scale 1 where the depth is even."""
    rng = np.random.default_rng([seed, depth])
    factor = 0.5 if depth % 2 else 1.0
    return [
        Case(*problem(rng, kind), scale * rng.standard_normal((depth, D)), factor) for kind in KINDS
    ]


def trajectory(case, ts):
    """The trajectory of one case, by SciPy."""
    solution = case.solve(ts)
    dim = case.layers.shape[1]
    rows = solution.y.T[:, :-dim].reshape(len(ts), *case.layers.shape)
    theta = np.prod(rows, axis=1)
    initial = DeepDiagonal(case.layers)
    return Trajectory(
        initial=initial,
        ts=jnp.asarray(ts),
        parameterization=jax.vmap(DeepDiagonal)(jnp.asarray(rows)),
        theta=jnp.asarray(theta),
        loss=jnp.asarray(case.loss(theta)),
        dual=jnp.asarray(solution.y.T[:, -dim:]),
        result=RESULTS.successful,  # pyright: ignore[reportArgumentType]
        stats={"num_accepted_steps": jnp.asarray(len(solution.sol.interpolants))},
        rtol=jnp.asarray(RTOL),
        atol=jnp.asarray(ATOL),
        method="full, DOP853 of SciPy",
        space=FullSpace(initial),
    )


def batch(cases, ts):
    """Trajectories and losses of several cases, stacked along a leading axis."""

    def stack(*leaves):
        return jnp.stack([jnp.asarray(leaf) for leaf in leaves])

    trajectories = jax.tree.map(stack, *[trajectory(case, ts) for case in cases])
    losses = jax.tree.map(stack, *[LeastSquares(c.X, c.y, c.scale) for c in cases])
    return trajectories, losses


def lane(tree, index):
    """One lane of a batch."""
    return jax.tree.map(lambda leaf: leaf[index], tree)

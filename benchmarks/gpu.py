"""One card, measured in a few minutes: `python -m benchmarks.gpu [--out FILE] [--only WORD ...]`.

Needs a checkout and the packages that ddln needs, no installation and no network. Each part prints when it
ends and survives the failure of another; the numbers are written after each. Without an accelerator the parts
run on the CPU with small sizes, which is a test of this file and measures nothing.
"""

import argparse
import functools
import json
import platform
import subprocess
import time
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import ddln
from benchmarks.settings import case_h

FOLDER = Path(__file__).parent
# theta at t = 1000 of the 64 lanes of case H, by SciPy's LSODA with a tolerance of 1e-13.
REFERENCE = FOLDER / "case_h_ends.npy"
T1 = 1000.0


class Sizes(NamedTuple):
    """How much each part computes.

    Attributes:
        flows: numbers of flows.
        float32: flows in float32.
        vmapped: lanes of the programs that a user of diffrax writes, and the time at which they end.
        vmapped_t1: that time.
        limits: numbers of limits.
        gradient: lanes of a differentiated sweep.
        data_sets: lanes with a data set each.
        matrices: matrix factorizations.
        host: flows on the host's CPU.
        square: rows of a matrix product.
        copied: bytes of a copy.
    """

    flows: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    float32: int = 100_000
    vmapped: int = 1024
    vmapped_t1: float = 10.0
    limits: tuple[int, ...] = (100_000, 1_000_000)
    gradient: int = 10_000
    data_sets: int = 100_000
    matrices: int = 1024
    host: int = 1024
    square: int = 8192
    copied: int = 2**32


SMALL = Sizes((128,), 64, 4, 0.1, (64,), 64, 64, 4, 64, 128, 2**20)


class Case:
    """Case H in one dtype, with any number of lanes: the 64 of the reference first."""

    def __init__(self, dtype: str):
        setting = case_h()
        self.dtype = dtype
        self.X, self.y = (np.asarray(a, dtype) for a in (setting.loss.X, setting.loss.y))
        self.layers = np.asarray(setting.layers)
        self.loss = ddln.LeastSquares(jnp.asarray(self.X), jnp.asarray(self.y), scale=0.5)

    def scales(self, lanes: int) -> np.ndarray:
        """Scales of the lanes: 64 of the reference, the others as wide and log-spaced."""
        own = np.logspace(-2, 0.3, 64)
        return np.concatenate([own, np.logspace(-2, 0.3, max(lanes - 64, 1))])[:lanes]

    @functools.cache  # noqa: B019  # a new rule would be a new program
    def starts(self, lanes: int) -> ddln.Initializations:
        """The starts, made where they are used."""
        stack = jnp.asarray(self.layers[0] / np.logspace(-2, 0.3, 64)[0], self.dtype)
        scales = jnp.asarray(self.scales(lanes), self.dtype)
        return ddln.Initializations(lambda i: ddln.DeepDiagonal(scales[i] * stack), lanes)


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """The value of a second call, its seconds, and those of the first, which compiles."""
    started = time.perf_counter()
    jax.block_until_ready(run())
    first = time.perf_counter() - started
    started = time.perf_counter()
    value = jax.block_until_ready(run())
    return value, time.perf_counter() - started, first


def row(name: str, lanes: int, run: Callable[[], Any], check: Callable | None = None) -> dict:
    """A row of the results."""
    value, seconds, first = timed(run)
    found = {"case": name, "lanes": lanes, "seconds": seconds, "compile_seconds": first - seconds}
    found["lanes_per_second"] = lanes / seconds
    stats = jax.devices()[0].memory_stats() or {}
    found["peak_gib"] = stats.get("peak_bytes_in_use", 0) / 2**30
    return found | (check(value) if check else {})


def checked_flows(result: Any) -> dict[str, Any]:
    """Error of the lanes that the reference has, and the number of lanes that failed."""
    ends = np.asarray(result.theta[:64, -1], float)
    expected = np.load(REFERENCE)[: len(ends)]
    error = np.abs(ends - expected).max(axis=1) / np.abs(expected).max(axis=1)
    return {"failed": int(np.sum(~result.okay)), "error": float(error.max())}


def flows(sizes: Sizes) -> list[dict]:
    case = Case("float64")

    def run(lanes):
        return ddln.sweep(case.starts(lanes), case.loss, T1, progress=False)

    return [row("flows", n, lambda n=n: run(n), checked_flows) for n in sizes.flows]


def flows_in_float32(sizes: Sizes) -> list[dict]:
    case, lanes = Case("float32"), sizes.float32
    settings: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-7, "progress": False}
    return [
        row(
            "flows, float32, rtol 1e-4",
            lanes,
            lambda: ddln.sweep(case.starts(lanes), case.loss, T1, **settings),
            checked_flows,
        )
    ]


def limits(sizes: Sizes) -> list[dict]:
    case = Case("float64")

    def check(result):
        residual = np.asarray(result.theta[:64, -1]) @ case.X.T - case.y
        return {"failed": int(np.sum(~result.okay)), "error": float(np.abs(residual).max())}

    def run(lanes):
        return ddln.sweep(case.starts(lanes), case.loss, jnp.inf, progress=False)

    return [row("limits", n, lambda n=n: run(n), check) for n in sizes.limits]


def gradient(sizes: Sizes) -> list[dict]:
    case, lanes = Case("float64"), sizes.gradient
    scales = jnp.asarray(case.scales(lanes))
    stack = jnp.asarray(case.layers[0] / 1e-2)

    @jax.jit
    @jax.value_and_grad
    def total(factor):
        starts = ddln.Initializations(
            lambda i: ddln.DeepDiagonal(factor * scales[i] * stack), lanes
        )
        return jnp.mean(jnp.abs(jnp.asarray(ddln.sweep(starts, case.loss, T1).theta)))

    return [row("gradient of a sweep", lanes, lambda: total(jnp.asarray(1.0)))]


def data_sets(sizes: Sizes) -> list[dict]:
    case, lanes = Case("float64"), sizes.data_sets
    truth = jnp.zeros(50).at[:3].set(jnp.array([1.0, -1.0, 0.7]))

    def data(index):
        X = jax.random.normal(jax.random.fold_in(jax.random.key(1), index), (20, 50)) / 20**0.5
        return ddln.LeastSquares(X, X @ truth, scale=0.5)

    def run():
        return ddln.sweep(case.starts(lanes), ddln.PerLane(data), T1, progress=False)

    return [row("a data set per lane", lanes, run, lambda r: {"failed": int(np.sum(~r.okay))})]


def diffrax_on_the_layers(case: Case, t1: float, solver: Any) -> Callable[[Any], Any]:
    """theta at t1 for many scales, by the flow of the layers as a user of diffrax writes it."""
    X, y = jnp.asarray(case.X), jnp.asarray(case.y)
    stack = jnp.asarray(case.layers[0] / 1e-2)

    def velocity(t, u, args):
        others = jnp.stack([jnp.prod(jnp.delete(u, k, axis=0), axis=0) for k in range(3)])
        return -others * (X.T @ (X @ jnp.prod(u, axis=0) - y))

    def one(scale):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(velocity),
            solver,
            0.0,
            t1,
            None,
            scale * stack,
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-9),
            max_steps=1_000_000,
            throw=False,
        )
        return jnp.prod(solution.ys[0], axis=0)  # pyright: ignore

    return jax.jit(jax.vmap(one))


def vmapped_diffrax(sizes: Sizes) -> list[dict]:
    case, t1 = Case("float64"), sizes.vmapped_t1
    scales = jnp.asarray(np.logspace(-2, 0.3, sizes.vmapped))
    starts = ddln.Initializations(
        lambda i: ddln.DeepDiagonal(scales[i] * jnp.asarray(case.layers[0] / 1e-2)), sizes.vmapped
    )
    rows = [
        row(
            f"flows to t = {t1:g}",
            sizes.vmapped,
            lambda: ddln.sweep(starts, case.loss, t1, progress=False),
        )
    ]
    for name, solver in (("Tsit5", diffrax.Tsit5()), ("Kvaerno5", diffrax.Kvaerno5())):
        program = diffrax_on_the_layers(case, t1, solver)
        label = f"vmap of diffrax {name} on the layers to t = {t1:g}"
        rows.append(row(label, sizes.vmapped, lambda program=program: program(scales)))
    return rows


def matrices(sizes: Sizes) -> list[dict]:
    lanes, size = sizes.matrices, 8
    key = jax.random.key(2)
    A = jax.random.normal(key, (40, size, size))
    loss = ddln.LeastSquares(A, jax.random.normal(key, (40,)), scale=0.5)
    pairs = 0.3 * jax.random.normal(key, (lanes, 2, size, size))

    def ours(pair):
        start = ddln.MatrixFactorization(*pair)
        return ddln.gradient_flow(start, loss, 1.0, rtol=1e-6, atol=1e-9, throw=False).theta[-1]

    def velocity(t, pair, args):
        return jax.tree.map(jnp.negative, jax.grad(lambda w: loss(w[0] @ w[1].T))(pair))

    def theirs(pair):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(velocity),
            diffrax.Tsit5(),
            0.0,
            1.0,
            None,
            pair,
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-9),
            throw=False,
        )
        return solution.ys[0, 0] @ solution.ys[0, 1].T  # pyright: ignore

    rows = [
        row(name, lanes, lambda run=run: run(pairs))
        for name, run in (
            ("matrix factorization, vmap of gradient_flow", jax.jit(jax.vmap(ours))),
            ("matrix factorization, vmap of diffrax Tsit5", jax.jit(jax.vmap(theirs))),
        )
    ]
    return rows


def host(sizes: Sizes) -> list[dict]:
    with jax.default_device(jax.devices("cpu")[0]):
        case, lanes = Case("float64"), sizes.host

        def run():
            return ddln.sweep(case.starts(lanes), case.loss, T1, progress=False)

        return [row("flows on the host's CPU", lanes, run, checked_flows)]


def roofline(sizes: Sizes) -> list[dict]:
    source = jnp.zeros(sizes.copied // 8)
    copy = jax.jit(lambda x: x + 1.0)
    _, seconds, _ = timed(lambda: copy(source))
    rows = [{"case": "copy", "bytes_per_second": 2 * sizes.copied / seconds, "seconds": seconds}]
    square = jnp.ones((sizes.square, sizes.square))
    multiply = jax.jit(lambda x: jnp.matmul(x, x, precision="highest"))
    _, seconds, _ = timed(lambda: multiply(square))
    rate = 2 * sizes.square**3 / seconds
    return [*rows, {"case": "float64 product", "flop_per_second": rate, "seconds": seconds}]


PARTS: dict[str, Callable[[Sizes], list[dict]]] = {
    "flows": flows,
    "float32": flows_in_float32,
    "limits": limits,
    "vmapped": vmapped_diffrax,
    "gradient": gradient,
    "data sets": data_sets,
    "matrices": matrices,
    "host": host,
    "roofline": roofline,
}


def machine() -> dict[str, Any]:
    """The card, its driver, and the versions; no names of machines or folders."""
    device = jax.devices()[0]
    driver = ""
    if device.platform == "gpu":
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        told = subprocess.run(query, capture_output=True, text=True, check=False)
        driver = told.stdout.strip().split("\n")[0]
    libraries = {}
    for name in ("ddln", "jax", "jaxlib", "diffrax", "equinox", "lineax", "numpy"):
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = "a checkout"
    return {
        "card": device.device_kind,
        "platform": device.platform,
        "driver": driver,
        "python": platform.python_version(),
        **libraries,
    }


def measure(sizes: Sizes, only: list[str], out: Path) -> dict[str, Any]:
    """Run the parts, and write what there is after each."""
    results: dict[str, Any] = {"machine": machine(), "rows": [], "failed": {}}
    for name, part in PARTS.items():
        if only and not any(word in name for word in only):
            continue
        started = time.perf_counter()
        try:
            rows = part(sizes)
        except Exception as error:  # of any kind: the other parts are wanted all the same
            traceback.print_exc()
            results["failed"][name] = f"{type(error).__name__}: {error}"[:300]
            rows = []
        results["rows"] += rows
        for found in rows:
            numbers = {k: round(v, 6) if isinstance(v, float) else v for k, v in found.items()}
            print(json.dumps(numbers), flush=True)
        print(f"[{name}: {time.perf_counter() - started:.1f} s]", flush=True)
        out.write_text(json.dumps(results, indent=1) + "\n")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--only", nargs="*", default=[], help="parts whose names contain a word")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    accelerated = jax.default_backend() != "cpu"
    results = measure(Sizes() if accelerated else SMALL, options.only, options.out)
    if results["failed"]:
        raise SystemExit(f"{len(results['failed'])} parts failed: {', '.join(results['failed'])}")


if __name__ == "__main__":
    main()

"""Everything that is timed, one line a row."""

import dataclasses
import math
import os
from typing import NamedTuple

import diffrax

import ddln
from benchmarks import methods
from benchmarks.methods import Method
from benchmarks.settings import Setting, case_h


class Case(NamedTuple):
    """A row.

    Attributes:
        group: what it is compared with.
        name: the method, or the size that is varied.
        method: how to run it.
        setting: on what.
        rounds: how often it is timed; the first of several runs is not.
        error: the largest error of theta that is accepted; None if there is no reference.
        devices: as how many devices JAX sees the CPU.
    """

    group: str
    name: str
    method: Method
    setting: Setting
    rounds: int = 5
    error: float | None = None
    devices: int = 1


def two_layers(initializations: int) -> Setting:
    """Flows of two layers, with scales over two decades."""
    return case_h(depth=2, initializations=initializations, t1=100.0)


CORES = os.cpu_count() or 1
TSIT5, KVAERNO5 = diffrax.Tsit5(), diffrax.Kvaerno5()
LSODA, RADAU = methods.scipy_in_processes("LSODA"), methods.scipy_in_processes("Radau")

ROWS = [
    Case("case H", "ddln.sweep", methods.sweep, case_h(), 15, 1e-5),
    Case(
        "case H",
        "ddln.sweep, all cores",
        methods.sweep_on_all_devices,
        case_h(),
        15,
        1e-5,
        devices=CORES,
    ),
    Case("case H", "vmap of ddln.gradient_flow", methods.vmapped_flow, case_h(), 10, 1e-5),
    Case("case H", "SciPy LSODA, reduced, processes", LSODA, case_h(), 5, 1e-3),
    Case("case H", "SciPy Radau, reduced, processes", RADAU, case_h(), 3, 1e-3),
    Case(
        "case H",
        "diffrax Kvaerno5, reduced",
        methods.diffrax_on_the_reduced_flow(KVAERNO5),
        case_h(),
        1,
        1e-3,
    ),
    Case(
        "case H",
        "diffrax Tsit5, reduced",
        methods.diffrax_on_the_reduced_flow(TSIT5),
        case_h(),
        1,
        1e-3,
    ),
    Case(
        "case H", "diffrax Tsit5, layers", methods.diffrax_on_the_layers(TSIT5), case_h(), 1, 1e-3
    ),
    # All 64 would take minutes.
    Case(
        "case H",
        "diffrax Kvaerno5, layers, 8 lanes",
        methods.diffrax_on_the_layers(KVAERNO5),
        case_h(initializations=8),
        1,
        1e-3,
    ),
    Case("case H", "explicit Euler in a scan, layers", methods.explicit_euler, case_h(), 1, 0.1),
    Case(
        "shares", "products and factorizations", methods.products_and_factorizations, case_h(), 10
    ),
    Case("shares", "reverse-mode gradient", methods.gradient_of_flow, case_h(), 5),
]

PRECISION = [
    Case("precision", f"{name} {rtol:.0e}", method, case_h(rtol), rounds, 1)
    for name, method, rounds, tolerances in [
        ("ddln.sweep", methods.sweep, 7, (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)),
        ("LSODA", LSODA, 3, (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)),
        ("Radau", RADAU, 2, (1e-4, 1e-6, 1e-8)),
        ("Kvaerno5", methods.diffrax_on_the_reduced_flow(KVAERNO5), 1, (1e-4, 1e-6, 1e-8)),
    ]
    for rtol in tolerances
]

FIGURE_3 = Setting(ddln.problems.figure_3, scale=1.0, t1=1.0)
FIGURE_4 = Setting(ddln.problems.figure_4, scale=1.0, t1=6.0)
PAPER = [
    Case(figure, name, method, dataclasses.replace(setting, rtol=rtol), rounds, 1e-4)
    for figure, setting, rounds in [("figure 3", FIGURE_3, 200), ("figure 4", FIGURE_4, 5)]
    for name, method, rtol in [
        ("vmap of ddln.gradient_flow", methods.vmapped_flow, 1e-6),
        ("diffrax Tsit5, layers", methods.diffrax_on_the_layers(TSIT5), 1e-6),
        ("diffrax Tsit5, layers, rtol 1e-8", methods.diffrax_on_the_layers(TSIT5), 1e-8),
        ("diffrax Kvaerno5, layers", methods.diffrax_on_the_layers(KVAERNO5), 1e-6),
    ]
]

SCALING = [
    Case(f"scaling in {axis}", str(size), methods.sweep, case_h(**{**sizes, key: size}), rounds)
    for axis, key, values, sizes, rounds in [
        ("B", "initializations", (64, 256, 1024, 4096), {}, 3),
        ("d", "d", (100, 316, 1000, 3162, 10000), {"initializations": 32}, 1),
        ("n", "n", (10, 20, 40, 80, 160), {"d": 200, "initializations": 32}, 1),
        ("L", "depth", (2, 3, 4, 6, 8, 12), {}, 3),
    ]
    for size in values
]

# A factorization of n rows each step against products with the data alone. The precise ends of the
# larger flows would take hours.
MATRIX_FREE = [
    Case(
        "matrix-free",
        f"{solver.__class__.__name__}, n {n}",
        methods.flow_by(solver=solver, adjoint=diffrax.ForwardMode(), dual=False),
        case_h(n=n, d=4 * n, initializations=2),
        1,
        1e-3 if n <= 100 else None,
    )
    for n in (50, 100, 200, 400, 800, 1600)
    for solver in (ddln.Rodas5P(), ddln.RKC())
]

LIMITS = [
    Case("limits", f"depth {depth}", methods.limits, case_h(depth=depth), 10)
    for depth in (2, 3, 4, 6, 10)
]

# Data of which one product a step is most of the work.
LARGE_LIMITS = [
    Case(
        "large limits", f"n {n}, d 5000", methods.limits, case_h(n=n, d=5000, initializations=1), 1
    )
    for n in (500, 1750)
]

# A chunk a core.
ALL_CORES = [
    Case("cores", f"{what}, {cores}", method, case_h(t1=t1, initializations=lanes), 3)
    for what, t1, lanes in (("2048 flows", 1000.0, 2048), ("16384 limits", math.inf, 16384))
    for cores, method in (
        ("one core", methods.on_one_core(methods.sweep)),
        ("all cores", methods.sweep),
    )
]

LARGE = [
    Case("large", "100000 flows", methods.sweep, case_h(initializations=100_000), 1),
    Case("large", "100000 limits", methods.limits, case_h(initializations=100_000), 1),
]

DESCENT = [
    Case("descent", name, method, case_h(d=30, depth=2), rounds)
    for name, method, rounds in [
        ("vmap of ddln.descend", methods.descent, 5),
        ("a bare scan in JAX", methods.descent_in_a_scan, 5),
        ("a loop in NumPy", methods.descent_in_numpy, 1),
    ]
]

DERIVATIVES = [
    Case(
        "derivatives",
        "gradient of one flow",
        methods.gradient_of_one_flow,
        case_h(initializations=1),
        50,
    ),
    Case("derivatives", "gradient of a sweep", methods.gradient_of_sweep, case_h(), 10),
    Case("derivatives", "gradient of 64 limits", methods.gradient_of_limits, case_h(), 50),
    *(
        Case(
            "derivatives",
            f"gradient of a sweep of {name} flows",
            methods.gradient_of_sweep_of(dynamics),
            two_layers(64),
            5,
        )
        for name, dynamics in methods.DYNAMICS.items()
    ),
    # More than 10^4 steps.
    Case(
        "derivatives",
        "gradient of a long flow, d 1000",
        methods.gradient_of_one_flow,
        case_h(1e-14, n=40, d=1000, initializations=1),
        1,
    ),
]

# The sweep against `jax.vmap` of the function, which waits for the slowest lane.
DYNAMICS = [
    Case("dynamics", f"{name}, {how}", method, two_layers(1024), 1)
    for name, dynamics in methods.DYNAMICS.items()
    for how, method in (
        ("ddln.sweep", methods.sweep_of(dynamics)),
        ("vmap of the function", methods.vmap_of(dynamics)),
    )
]
PER_LANE = [
    Case("per lane", name, method, case_h(initializations=1024), 5)
    for name, method in (
        ("one data set", methods.sweep),
        ("a data set each", methods.sweep_of_data_sets),
    )
]

# The same flows, by their layers and by the two layers that they are; two networks against one of them.
MODELS = [
    Case("models", name, methods.sweep_from(start), case_h(depth=depth, initializations=1024), 3)
    for name, depth, start in (
        ("four vectors", 4, lambda u: ddln.FourVector(*u)),
        ("their two layers", 4, lambda u: ddln.FourVector(*u).two_layers()),
        (
            "sum of two networks",
            6,
            lambda u: ddln.Sum(ddln.DeepDiagonal(u[:3]), ddln.DeepDiagonal(u[3:])),
        ),
        ("one of them", 6, lambda u: ddln.DeepDiagonal(u[:3])),
    )
]

CASES = [
    *ROWS,
    *DERIVATIVES,
    *DYNAMICS,
    *PER_LANE,
    *MODELS,
    *PRECISION,
    *PAPER,
    *SCALING,
    *MATRIX_FREE,
    *LIMITS,
    *LARGE_LIMITS,
    *ALL_CORES,
    *LARGE,
    *DESCENT,
]

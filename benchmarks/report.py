"""Tables and figures from results.json: docs/performance.md and the pictures in it."""

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from benchmarks import gpu_page
from benchmarks.markdown import Target, number, table, table_of_wanted
from ddln import plots

RESULTS = Path(__file__).with_name("results.json")
TEMPLATE = Path(__file__).with_name("performance.template.md")
DOCS = Path(__file__).parent.parent / "docs"

SWEEP, LSODA = "ddln.sweep", "SciPy LSODA, reduced, processes"
ALL_CORES = "ddln.sweep, all cores"
TSIT5, KVAERNO5 = "diffrax Tsit5, layers", "diffrax Kvaerno5, layers, 8 lanes"
FLOW = "vmap of ddln.gradient_flow"
DESCENT = "vmap of ddln.descend"

# Cores busy with other work, on average over a row, that do not disturb it.
QUIET = 0.2

Row = dict[str, Any]


class Results:
    """The rows of results.json, by group and name."""

    def __init__(self, content: dict):
        self.machines = content["machines"]
        self.groups: dict[str, dict[str, Row]] = {}
        for row in content["rows"].values():
            self.groups.setdefault(row["group"], {})[row["row"]] = row

    def __getitem__(self, group: str) -> dict[str, Row]:
        return self.groups.get(group, {})

    def seconds(self, group: str, row: str) -> float:
        return self[group][row]["seconds"]

    def curve(self, group: str) -> tuple[np.ndarray, np.ndarray]:
        """Sizes and times of a scaling."""
        rows = self[group]
        sizes = np.array(sorted(int(size) for size in rows))
        return sizes, np.array([rows[str(size)]["seconds"] for size in sizes])

    def precision(self, method: str) -> tuple[np.ndarray, np.ndarray]:
        """Errors and times of a method at several tolerances, from the largest error on."""
        rows = [row for name, row in self["precision"].items() if name.startswith(method)]
        rows.sort(key=lambda row: -row["error"])
        return np.array([row["error"] for row in rows]), np.array([row["seconds"] for row in rows])


def exponent(sizes: np.ndarray, seconds: np.ndarray) -> float:
    """The slope of the line through the logarithms.

    Raises:
        ValueError: for one size alone.
    """
    if len(sizes) < 2:
        raise ValueError("Argument `sizes` must have two entries at least.")
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def seconds_at_error(results: Results, method: str, error: float) -> float:
    """The time a method takes for an error, between the tolerances that were timed."""
    errors, seconds = results.precision(method)
    ahead = np.log(errors[::-1])
    return float(np.exp(np.interp(np.log(error), ahead, np.log(seconds[::-1]))))


def _times_faster(row: str) -> Callable[[Results], float]:
    return lambda r: r.seconds("case H", row) / r.seconds("case H", SWEEP)


def _paper(figure: str, equal_error: bool) -> Callable[[Results], float]:
    def value(r):
        own = r[figure][FLOW]
        rivals = [row for name, row in r[figure].items() if "diffrax" in name]
        if equal_error:
            rivals = [row for row in rivals if row["error"] <= own["error"]]
        return own["seconds"] / min(row["seconds"] for row in rivals)

    return value


def _at_equal_error(r: Results) -> float:
    sweep = r["case H"][ALL_CORES]
    return seconds_at_error(r, "LSODA", sweep["error"]) / sweep["seconds"]


def _best_baseline(r: Results) -> float:
    others = [row["seconds"] for name, row in r["case H"].items() if "ddln" not in name]
    return min(others) / r.seconds("case H", SWEEP)


def _largest(group: str, fact: str) -> Callable[[Results], float]:
    return lambda r: max(row[fact] for row in r[group].values())


def _exponent(axis: str) -> Callable[[Results], float]:
    return lambda r: exponent(*r.curve(f"scaling in {axis}"))


def _over_forward(name: str) -> Callable[[Results], float]:
    def ratio(r: Results) -> float:
        row = r["derivatives"][name]
        return row["seconds"] / row["forward seconds"]

    return ratio


def _over_vmap(name: str) -> Callable[[Results], float]:
    return lambda r: (
        r.seconds("dynamics", f"{name}, vmap of the function")
        / r.seconds("dynamics", f"{name}, ddln.sweep")
    )


def _over_one(what: str) -> Callable[[Results], float]:
    return lambda r: (
        r.seconds("cores", f"{what}, one core") / r.seconds("cores", f"{what}, all cores")
    )


OTHERS = ("momentum", "mirror", "decayed", "steepest")
ONE, SWEPT, ENDS = "gradient of one flow", "gradient of a sweep", "gradient of 64 limits"
LONG = "gradient of a long flow, d 1000"
TARGETS = [
    Target(
        "case H: times faster than diffrax Tsit5 on the layers", _times_faster(TSIT5), 250, True
    ),
    Target(
        "case H: error over that of diffrax Tsit5 on the layers",
        lambda r: r["case H"][SWEEP]["error"] / r["case H"][TSIT5]["error"],
        1,
    ),
    Target(
        "case H, 64 lanes: times faster than diffrax Kvaerno5 on the layers of 8 lanes",
        _times_faster(KVAERNO5),
        30,
        True,
    ),
    Target(
        "case H, both on all cores: times faster than SciPy LSODA at equal error",
        _at_equal_error,
        5,
        True,
    ),
    Target("case H: times faster than the fastest other row", _best_baseline, 1, True),
    Target(
        "limits of case H: times faster than diffrax Tsit5 on the layers to t1 = 1000",
        lambda r: r.seconds("case H", TSIT5) / r.seconds("limits", "depth 3"),
        2000,
        True,
    ),
    Target("limits, depth 2 to 10: largest residual", _largest("limits", "residual"), 1e-9),
    Target("limits, depth 2 to 10: largest relative gap", _largest("limits", "relative gap"), 1e-9),
    *(
        Target(
            f"limit with {size}: seconds",
            lambda r, size=size: r.seconds("large limits", size),
            most,
        )
        for size, most in (("n 500, d 5000", 5), ("n 1750, d 5000", 60))
    ),
    Target("2048 flows: times faster on all cores than on one", _over_one("2048 flows"), 1.8, True),
    Target(
        "16384 limits: times faster on all cores than on one", _over_one("16384 limits"), 1.7, True
    ),
    Target("100000 flows: seconds", lambda r: r.seconds("large", "100000 flows"), 110),
    Target(
        "100000 flows: peak memory in GiB",
        lambda r: r["large"]["100000 flows"]["MiB at most"] / 1024,
        1.5,
    ),
    Target("exponent of the time in B", _exponent("B"), 1.05),
    Target("exponent of the time in d", _exponent("d"), 1.1),
    Target("exponent of the time in L", _exponent("L"), 1.2),
    Target("exponent of the time in n", _exponent("n")),
    Target(
        "case H: useful lane-steps",
        lambda r: r["shares"]["products and factorizations"]["busy lane-steps"],
        0.85,
        True,
    ),
    Target(
        "case H: share of the products and factorizations in the time",
        lambda r: r.seconds("shares", "products and factorizations") / r.seconds("case H", SWEEP),
    ),
    Target("gradient of one flow of case H over its forward run", _over_forward(ONE), 3),
    Target("gradient of a sweep of case H over its forward run", _over_forward(SWEPT), 4),
    Target("gradient of 64 limits over the limits", _over_forward(ENDS), 1.5),
    *(
        Target(
            f"gradient of a sweep of {name} flows over its forward run",
            _over_forward(f"gradient of a sweep of {name} flows"),
            4,
        )
        for name in OTHERS
    ),
    *(
        Target(
            f"sweep of 1024 {name} flows: times faster than vmap of the function",
            _over_vmap(name),
            3,
            True,
        )
        for name in OTHERS
    ),
    Target(
        "1024 flows: time with a data set each over that with one",
        lambda r: r.seconds("per lane", "a data set each") / r.seconds("per lane", "one data set"),
        1.3,
    ),
    Target(
        "1024 flows of four vectors: time over that of their two layers",
        lambda r: r.seconds("models", "four vectors") / r.seconds("models", "their two layers"),
        1.1,
    ),
    Target(
        "1024 flows of a sum of two networks of three layers: time over that of one of them",
        lambda r: r.seconds("models", "sum of two networks") / r.seconds("models", "one of them"),
        2.5,
    ),
    Target(
        "gradient through a long flow, d = 1000: MiB of temporaries",
        lambda r: r["derivatives"][LONG]["MiB of temporaries"],
        200,
    ),
    Target("accepted steps of that flow", lambda r: r["derivatives"][LONG]["steps"][0], 1e4, True),
    Target(
        "gradient against central differences, relative",
        lambda r: r["shares"]["reverse-mode gradient"]["relative to central differences"],
        1e-5,
    ),
    Target(
        "descent, 64 lanes: times faster than a loop in NumPy",
        lambda r: r.seconds("descent", "a loop in NumPy") / r.seconds("descent", DESCENT),
        20,
        True,
    ),
    Target(
        "descent, 64 lanes: time over a bare scan in JAX",
        lambda r: r.seconds("descent", DESCENT) / r.seconds("descent", "a bare scan in JAX"),
        1.5,
    ),
    Target(
        "compile time over diffrax Tsit5 on the layers",
        lambda r: r["case H"][SWEEP]["compile seconds"] / r["case H"][TSIT5]["compile seconds"],
        2,
    ),
    Target(
        "compile time over diffrax Kvaerno5 on the layers",
        lambda r: r["case H"][SWEEP]["compile seconds"] / r["case H"][KVAERNO5]["compile seconds"],
    ),
    Target(
        "import ddln over import diffrax",
        lambda r: r["shares"]["import"]["import ddln"] / r["shares"]["import"]["import diffrax"],
        1.2,
    ),
    *(
        Target(
            f"paper's {figure}: time over the fastest diffrax row{which}", _paper(figure, equal), 1
        )
        for figure in ("figure 3", "figure 4")
        for which, equal in (("", False), (" that is as precise", True))
    ),
]


def table_of_targets(results: Results) -> str:
    return table_of_wanted(TARGETS, results)


def table_of_rows(group: dict[str, Row]) -> str:
    if not group:
        return "Not timed."
    header = ["", "seconds", "error", "steps (least, median, most)", "compile, s", "memory, MiB"]
    rows = []
    for name, row in sorted(group.items(), key=lambda item: item[1]["seconds"]):
        steps = ", ".join(number(count) for count in row.get("steps", []))
        cells = [number(row["seconds"]), number(row.get("error")), steps]
        cells += [number(row["compile seconds"]), f"{row['MiB at most']:.0f}"]
        rows.append([name, *cells])
    return table(header, rows)


def table_of_derivatives(group: dict[str, Row]) -> str:
    if not group:
        return "Not timed."
    header = ["", "seconds", "forward, s", "steps (most)", "compile, s", "temporaries, MiB"]
    rows = []
    for name, row in group.items():
        counts = row["seconds"], row["forward seconds"], row["steps"][2]
        cells = [*counts, row["compile seconds"], row["MiB of temporaries"]]
        rows.append([name, *map(number, cells)])
    return table(header, rows)


def caution(results: Results) -> str:
    """A warning if the numbers were taken on different days, or beside other work."""
    rows = [row for group in results.groups.values() for row in group.values()]
    lines = []
    dates = sorted({row["date"] for row in rows})
    if len(dates) > 1:
        lines.append(
            f"Rows were taken from {dates[0]} to {dates[-1]}. The machine is a virtual one, on some days "
            "twice as slow as on others: compare rows of one group."
        )
    disturbed = [row for row in rows if row["cores busy with other work"] > QUIET]
    if disturbed:
        told = f"{len(disturbed)} of {len(rows)} rows were taken while the machine did other work."
        lines.append(f"**{told}**")
    return "\n\n".join(lines)


def draw_rows(results: Results) -> plt.Figure:
    rows = sorted(results["case H"].items(), key=lambda item: -item[1]["seconds"])
    figure, ax = plt.subplots(figsize=(5.0, 2.3))
    for name, row in rows:
        bar = ax.barh(name, row["seconds"], color="C0" if "ddln" in name else "0.7")
        ax.bar_label(bar, [f"{number(row['seconds'])} s"], padding=2, fontsize=7)
    ax.set_xscale("log")
    ax.margins(x=0.2)
    ax.set_xlabel("time (s)")
    return figure


def draw_precision(results: Results) -> plt.Figure:
    figure, ax = plt.subplots()
    labels = {
        "ddln.sweep": SWEEP,
        "LSODA": "SciPy LSODA",
        "Radau": "SciPy Radau",
        "Kvaerno5": "diffrax Kvaerno5",
    }
    for (method, label), marker in zip(labels.items(), "os^D", strict=True):
        ax.loglog(*results.precision(method), marker=marker, label=label)
    layers = results["case H"].get(TSIT5)
    if layers is not None:
        label = "diffrax Tsit5, layers"
        ax.loglog(layers["error"], layers["seconds"], "v", ls="none", label=label)
    ax.invert_xaxis()
    ax.set_xlabel(r"largest error of $\theta$")
    ax.set_ylabel("time (s)")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_scaling(results: Results) -> plt.Figure:
    figure, axes = plt.subplots(1, 4, figsize=(6.75, 1.9))
    for ax, axis in zip(axes, ("B", "d", "n", "L"), strict=True):
        ax.set_xlabel(f"${axis}$")
        sizes, seconds = results.curve(f"scaling in {axis}")
        if len(sizes) < 2:
            continue
        slope = exponent(sizes, seconds)
        ax.loglog(sizes, seconds, "o", color="C0")
        middle = np.exp(np.mean(np.log(seconds)) - slope * np.mean(np.log(sizes)))
        ax.loglog(sizes, middle * sizes**slope, color="C1", ls="-", lw=0.8)
        ax.set_title(f"exponent {slope:.2f}")
        ax.set_xticks(sizes, [str(size) for size in sizes], rotation=45)
        ax.minorticks_off()
    axes[0].set_ylabel("time (s)")
    return figure


def report() -> None:
    """Writes the page and its pictures, and prints the table of targets."""
    results = Results(json.loads(RESULTS.read_text()))
    with plots.style():
        for name, draw in [
            ("rows", draw_rows),
            ("precision", draw_precision),
            ("scaling", draw_scaling),
        ]:
            draw(results).savefig(DOCS / "assets" / f"performance-{name}.png")
    targets = table_of_targets(results)
    page = string.Template(TEMPLATE.read_text()).substitute(
        targets=targets,
        caution=caution(results),
        case_h=table_of_rows(results["case H"]),
        figure_3=table_of_rows(results["figure 3"]),
        figure_4=table_of_rows(results["figure 4"]),
        limits=table_of_rows(results["limits"]),
        descent=table_of_rows(results["descent"]),
        dynamics=table_of_rows(results["dynamics"]),
        per_lane=table_of_rows(results["per lane"]),
        models=table_of_rows(results["models"]),
        large_limits=table_of_rows(results["large limits"]),
        derivatives=table_of_derivatives(results["derivatives"]),
        matrix_free=table_of_rows(results["matrix-free"]),
        large=table_of_rows(results["large"]),
        cores=table_of_rows(results["cores"]),
        gpu=gpu_page.section(),
        machines="\n".join(
            "- " + ", ".join(f"{key} {value}" for key, value in machine.items())
            for machine in results.machines
        ),
    )
    (DOCS / "performance.md").write_text(page)
    print(targets)

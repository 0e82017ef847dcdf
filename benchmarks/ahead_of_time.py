"""Programs compiled for a GPU and a TPU by their own compilers, without a device.

`pip install ".[aot]" && python -m benchmarks.ahead_of_time` prints a table, and writes it into
docs/on-a-gpu.md with `--write`. Kernels, bytes and memory are read off the optimized programs; nothing is
timed but the compilation. A number that has grown by a fifth since it was last written fails the command.
"""

import argparse
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "ahead_of_time.json"
PAGE = FOLDER.parent / "docs" / "on-a-gpu.md"
KEYS = ("operations", "kilobytes")
BEGIN, END = "<!-- programs -->", "<!-- end of programs -->"
# A number that grows by more than this is told.
GROWTH = 1.2
# Lanes of the sweep, all at once.
LANES = 8192

# Facts of NVIDIA's H100 SXM (80 GB), from its data sheet, in the form that XLA reads.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000 device_memory_size: 84942979072 l2_cache_size: 52428800
  cuda_compute_capability { major: 9 } device_address_bits: 64 device_vendor: "NVIDIA Corporation"
  platform_version: "Compute Capability 9.0" name: "NVIDIA H100 80GB HBM3"
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


class Operation(NamedTuple):
    """A line of an optimized program.

    Attributes:
        name: what it defines.
        bytes: the size of what it defines.
        kind: such as "fusion" or "while".
        operands: the names that it reads.
        called: the computations that it calls.
        trips: how often a loop runs its body, if the compiler knows.
    """

    name: str
    bytes: int
    kind: str
    operands: tuple[str, ...]
    called: tuple[str, ...]
    trips: int | None


# These take no time on the device of their own.
FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
}
_SIZES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s32": 4, "u32": 4}
_SIZES |= {"f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16}
_SHAPE = re.compile(r"\b(" + "|".join(_SIZES) + r")\[([\d,]*)\]")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_CALLED = re.compile(
    r"(?:body|condition|to_apply|calls|branch_computations)=\{?((?:%[\w.\-]+(?:, )?)+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


def computations(text: str) -> dict[str, list[Operation]]:
    """The computations of an optimized program, by name; the entry is called "ENTRY"."""
    found: dict[str, list[Operation]] = {}
    current: list[Operation] = []
    for line in text.splitlines():
        if line and not line[0].isspace() and line.rstrip().endswith("{"):
            name = "ENTRY" if line.startswith("ENTRY") else line.split()[0].lstrip("%")
            current = found.setdefault(name, [])
        elif match := _LINE.match(line):
            name, shape, kind, rest = match.groups()
            arguments = rest.split(")", 1)[0]
            called = [n for m in _CALLED.finditer(rest) for n in re.findall(r"[\w.\-]+", m[1])]
            trips = _TRIPS.search(rest)
            current.append(
                Operation(
                    name,
                    _bytes(shape),
                    kind,
                    tuple(re.findall(r"%([\w.\-]+)", arguments)),
                    tuple(called),
                    int(trips[1]) if trips else None,
                )
            )
    return found


def _bytes(shapes: str) -> int:
    total = 0
    for dtype, sizes in _SHAPE.findall(shapes):
        count = 1
        for size in filter(None, sizes.split(",")):
            count *= int(size)
        total += _SIZES[dtype] * count
    return total


class Cost(NamedTuple):
    """Work of a computation: device operations, and the bytes that they read and write."""

    operations: int
    bytes: int


def cost(program: dict[str, list[Operation]], name: str) -> Cost:
    """The work of a computation with the loops in it; a loop of unknown length counts once."""
    sizes = {operation.name: operation.bytes for operation in program[name]}
    operations = total = 0
    for one in program[name]:
        if one.kind in FREE:
            continue
        if one.kind in ("while", "conditional", "call"):
            for called in one.called:
                inner = cost(program, called)
                trips = one.trips or 1
                operations += trips * inner.operations
                total += trips * inner.bytes
            continue
        operations += 1
        total += one.bytes + sum(sizes.get(operand, 0) for operand in one.operands)
    return Cost(operations, total)


def step_cost(program: dict[str, list[Operation]], trips: int) -> Cost | None:
    """The work of a step of all lanes: the body of the heaviest loop that makes so many steps, if any.

    The compiler for TPUs notes no numbers of trips.
    """
    bodies = [
        cost(program, called)
        for operations in program.values()
        for one in operations
        if one.kind == "while" and one.trips == trips
        for called in one.called
    ]
    return max(bodies, key=lambda found: found.bytes, default=None)


class Compiled(NamedTuple):
    """Numbers of a program that was compiled for a device.

    Attributes:
        operations: device operations a step of all lanes; None for a program without such steps.
        kilobytes: memory traffic a lane and step, each operation reading its operands whole.
        memory: bytes that the device needs besides arguments and results.
        tf32: instructions of the program that round to TF32.
        seconds: processor time of tracing and compiling, without that of ptxas.
    """

    operations: int | None
    kilobytes: float | None
    memory: int
    tf32: int
    seconds: float


def compile_for(
    device: Any, function: Callable, arguments: Any, trips: int | None
) -> tuple[Compiled, str]:
    """A function of these arguments, compiled for a device that is not there, and its text."""
    import equinox as eqx
    import jax

    where = jax.sharding.SingleDeviceSharding(device)
    arrays, static = eqx.partition(arguments, eqx.is_array)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), arrays
    )

    def run(arrays):
        return eqx.filter(function(*eqx.combine(arrays, static)), eqx.is_array)

    started = time.process_time()
    platform = "cuda" if device.platform == "gpu" else device.platform
    traced = jax.jit(run, out_shardings=where).trace(shapes)
    lowered = traced.lower(lowering_platforms=(platform,))
    with tempfile.TemporaryDirectory() as dump:
        options: Any = {"xla_dump_to": dump} if platform == "cuda" else None
        compiled = lowered.compile(compiler_options=options)
        ptx = "".join(file.read_text() for file in Path(dump).rglob("*.ptx"))
    seconds = time.process_time() - started
    text = compiled.as_text() or ""
    program = computations(text)
    memory = compiled.memory_analysis()
    step = step_cost(program, trips) if trips else None
    return (
        Compiled(
            operations=step.operations if step else None,
            kilobytes=step.bytes / LANES / 1e3 if step else None,
            memory=int(getattr(memory, "temp_size_in_bytes", 0)),
            tf32=len(re.findall(r"\btf32\b", ptx)),
            seconds=seconds,
        ),
        text,
    )


def programs(dtype: str) -> Iterator[tuple[str, Callable, Any, int | None]]:
    """The programs: a name, a function, its arguments, and how many steps its inner loop makes."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    import ddln
    from ddln.engine.internal import queue_of
    from ddln.sweeps._sweep import lanes_of
    from ddln.sweeps._widths import widths_of

    widths = widths_of("gpu")
    trips = queue_of("gpu").segment
    problem, layers = ddln.problems.case_h(jax.random.key(0), initializations=1)
    u = np.asarray(layers, dtype).reshape(layers.shape[-2:])
    X, y = np.asarray(problem.X, dtype), np.asarray(problem.y, dtype)
    loss = ddln.LeastSquares(jnp.asarray(X), jnp.asarray(y), scale=0.5)
    stack = jax.vmap(ddln.DeepDiagonal)(jnp.broadcast_to(jnp.asarray(u), (2 * LANES, *u.shape)))
    settings: dict[str, Any] = (
        {"rtol": 1e-6, "atol": 1e-9} if dtype == "float64" else {"rtol": 1e-4, "atol": 1e-7}
    )
    indices = jnp.arange(2 * LANES)

    def sweep(dynamics=None, t1=1000.0):
        lanes = lanes_of(stack, loss, t1, widths=widths, dynamics=dynamics, **settings)
        return lambda lanes, indices: lanes.compute(indices), (lanes, indices)

    yield "sweep", *sweep(), trips
    yield "sweep of momentum flows", *sweep(ddln.MomentumDynamics(inertia=1.0)), trips
    yield "sweep of mirror flows", *sweep(ddln.MirrorDynamics()), trips
    lanes = lanes_of(stack, loss, jnp.inf, widths=widths)
    yield "sweep of limits", lambda lanes, indices: lanes.compute(indices), (lanes, indices), None

    def total(layers, loss):
        starts = jax.vmap(ddln.DeepDiagonal)(layers)
        return jnp.sum(jnp.asarray(ddln.sweep(starts, loss, 1000.0, **settings).theta))

    some = jnp.broadcast_to(jnp.asarray(u), (LANES, *u.shape))
    yield "gradient of a sweep", jax.grad(total), (some, loss), None
    noise = ddln.StochasticDynamics(
        key=jax.random.key(0), noise=ddln.LabelNoise(0.1), step_size=0.01, steps=1000
    )
    yield "sweep of stochastic flows", *sweep(noise, 10.0), None
    descent = ddln.DescentDynamics(optax.sgd(0.01))
    yield "sweep of descents", *sweep(descent, 1000), None


def grown(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The numbers that have grown by more than a fifth; compile times scatter too much."""
    return [
        f"{name}: {key} {old[key]} -> {new[key]}"
        for name, new in after.items()
        if (old := before.get(name))
        for key in ("operations", "kilobytes", "memory", "tf32")
        if old[key] is not None and new[key] > GROWTH * old[key]
    ]


def table(rows: dict[str, Any]) -> str:
    """The rows as a table of the page."""
    lines = [
        "| program | compiled for | operations a step | kB a lane and step | MiB besides data | TF32 | s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        device, precision, program = name.split(", ", 2)
        operations, kilobytes = ("" if row[k] is None else f"{row[k]:.0f}" for k in KEYS)
        lines.append(
            f"| {program} | {device}, {precision} | {operations} | {kilobytes} "
            f"| {row['memory'] / 2**20:.0f} | {row['tf32']} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def topology_of(device: str) -> Any:
    """A device that is not there."""
    from jax.experimental import topologies

    if device == "H100":
        return topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ahead_of_time", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these programs; all if none is named")
    parser.add_argument("--device", choices=("H100", "v5e"), default="H100")
    parser.add_argument("--precision", choices=("float64", "float32"), default="float64")
    parser.add_argument("--text", type=Path, help="a folder for the optimized programs")
    parser.add_argument("--write", action="store_true", help="keep the numbers and the table")
    options = parser.parse_args()
    # Before JAX is imported: the compilers are there, the devices are not.
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    from ddln._numerics import tracing_for

    jax.config.update("jax_enable_x64", options.precision == "float64")
    (device, *_) = topology_of(options.device).devices
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found: dict[str, Any] = {}
    for name, function, arguments, trips in programs(options.precision):
        if options.names and name not in options.names:
            continue
        with tracing_for(device.platform):
            compiled, text = compile_for(device, function, arguments, trips)
        found[f"{options.device}, {options.precision}, {name}"] = compiled._asdict()
        print(name, compiled, flush=True)
        if options.text:
            options.text.mkdir(parents=True, exist_ok=True)
            (options.text / f"{name.replace(' ', '-')}.txt").write_text(text)
        if options.write:
            rows = before | found
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
            page = PAGE.read_text()
            head, tail = page.split(BEGIN)[0], page.split(END)[1]
            PAGE.write_text(f"{head}{BEGIN}\n\n{table(rows)}\n\n{END}{tail}")
    if more := grown(before, found):
        raise SystemExit("More than before:\n" + "\n".join(more))


if __name__ == "__main__":
    main()

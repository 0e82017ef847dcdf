"""The options of the commands; their help texts are the docstrings here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

# Training samples of the embedded data, by default: fewer than its 64 features, so that there are many
# solutions and the initialization decides between them.
EMBEDDED_TRAIN = 32
Kept = Literal["theta", "ends", "norms", "errors", "checks", "margins", "limits"]


@dataclass(frozen=True)
class SweepOptions:
    """Train deep diagonal linear networks by gradient flow from many initializations.

    Without options: the diabetes data (Efron et al. 2004, 64 quadratic features, 32 patients to train on
    and the others held out), depths 2, 3 and 4, and two initializations at 64 scales. It shows what
    each depth reached, which theorems were checked on the way with which outcome, and writes

      results.zarr   theta, loss and time of every flow (xarray.open_zarr)
      summary.json   options, versions, the tables
      run.toml       the options again: `ddln sweep --config run.toml` repeats the run
      explore.html   a page to look at every flow
      *.png, *.pdf   figures

    For example
      ddln sweep
      ddln sweep --data prices.csv --target price --depths 2 6 --initializations 10
      ddln sweep --scales 1e-3 1 --t1 1e6 --out small-scales
      ddln sweep --initializations 10000 --workers 8 --out many --observe ends errors
      ddln sweep --config run.toml --seed 1

    A run that was stopped goes on with --resume and the options it had.
    """

    config: Path | None = None
    """A TOML file with options, such as the run.toml of an earlier run. Options given here override it."""
    data: Path | None = None
    """A CSV, TSV, Parquet, Feather, NPY or NPZ file, or a folder of Parquet files; the embedded diabetes
    data if not given."""
    target: str | None = None
    """The column of the file to predict, by its name, or by its position from 0 where no column has that
    name; the last one if not given."""
    drop: tuple[str, ...] = ()
    """Columns of the file to leave out, by name."""
    encode: bool = False
    """Turn texts into an indicator of each text, and dates into days."""
    missing: Literal["error", "drop", "mean"] = "error"
    """What to do about empty cells: refuse them, leave out their rows, or fill in the mean of the column."""
    train: int | None = None
    """Train on this many samples, chosen at random, and hold out the others. By default 32 of the
    embedded data and all of a file."""
    depths: tuple[int, ...] = (2, 3, 4)
    """Numbers of layers, each at least 2."""
    scales: tuple[float, float] = (0.03, 1.0)
    """The smallest and the largest scale of the initialization."""
    scale_count: int = 64
    """Number of scales, evenly spaced on a log axis."""
    initializations: int = 2
    """Number of initializations, each taken at every scale. The first has last layer 0 and the others
    equal to the scale; from the second on they are random, normal."""
    t1: float | Literal["auto"] = 1e5
    """The end of the training time. (Columns of X have norm 1 and y has norm 1.) With auto a time by which
    flows from the smallest scale have converged."""
    saves: int = 64
    """Number of saved times: 0, and evenly spaced on a log axis up to t1."""
    rtol: float = 1e-4
    """Relative tolerance of the integration."""
    atol: float = 1e-7
    """Absolute tolerance of the integration, relative to the initialization where that is below 1."""
    max_steps: int = 16384
    """The most steps of one flow."""
    observe: tuple[Kept, ...] = ("theta", "checks")
    """What is kept of a flow, beside its loss, time, steps and result: theta at every saved time; ends, theta
    at t1 alone; norms, the l1 and l2 norms of theta, and errors, the held-out error, at every saved time;
    checks, the outcomes of the theorems; margins, how clear these outcomes are; limits, theta at
    t = infinity, without integration. For many flows leave out theta, which takes most of the room."""
    seed: int = 0
    """Of the split and of the initializations."""
    precision: Literal["float64", "float32"] = "float64"
    """Of all numbers."""
    chunk_size: int | None = None
    """Flows computed at once; chosen if not given."""
    out: Path | None = None
    """The folder for the results; a new one below ddln-results if not given."""
    store: str | None = None
    """Another place for results.zarr: a path, or a URL such as s3://bucket/results.zarr. The workers
    must reach it."""
    resume: bool = False
    """Go on with a run that was stopped: the one in --out or --store, from the start if there is nothing
    yet, or the newest sweep below ddln-results. Give the other options as they were."""
    workers: int | None = None
    """Number of processes of this machine that share the flows; if not given, one that uses all its cores."""
    address: str | None = None
    """The scheduler of a Dask cluster whose workers share the flows, such as tcp://host:8786."""
    overwrite: bool = False
    """Replace earlier results in the folder given with --out."""
    figures: bool = True
    """Draw the figures, and write the page."""
    compilation_cache: Path | None = None
    """A folder where JAX keeps compiled programs for the next run, so that it starts at once. Off if
    not given."""


@dataclass(frozen=True)
class StatusOptions:
    """Show the state of a sweep: flows done, failed by reason, and missing; and what was computed.

    For example
      ddln status ddln-results/run-001
      ddln status s3://bucket/results.zarr --verify
    """

    store: tyro.conf.Positional[str]
    """The store, or the folder of a run."""
    verify: bool = False
    """Read everything and compare checksums."""


@dataclass(frozen=True)
class ExploreOptions:
    """Write a page to look at a sweep with: a map of its flows, and each flow by a click.

    One HTML file that loads nothing. `ddln sweep` writes it too; this command writes it anew, also of a
    sweep that is not finished, or of any store of `ddln.sweep`. For example
      ddln explore ddln-results/run-001
      ddln explore s3://bucket/results.zarr --out page.html
    """

    store: tyro.conf.Positional[str]
    """The store, or the folder of a run."""
    out: Path | None = None
    """The file; explore.html in the folder of the run, or in this one, if not given."""


@dataclass(frozen=True)
class ExportOptions:
    """Copy the finished flows of a sweep to a table or a netCDF file.

    A table has a row for each flow and time saved, and a column for each coordinate. For
    example
      ddln export ddln-results/run-001 --to parquet
      ddln export results.zarr --to netcdf --out results.nc
    """

    store: tyro.conf.Positional[str]
    """The store, or the folder of a run."""
    to: Literal["csv", "parquet", "netcdf"]
    """The format. Parquet needs pyarrow; netCDF takes h5netcdf or SciPy."""
    out: Path | None = None
    """The file; in this folder, named after the store, if not given."""
    overwrite: bool = False
    """Replace the file if there is one."""


@dataclass(frozen=True)
class ReproduceOptions:
    """Measure every claim of the paper and of the slides, or published numbers of the literature.

    Each theorem, formula and remark of the documents that this package follows is a claim with a program
    of its own. Writes

      report.html   formulas, numbers against their limits, figures, code; one file
      report.json   the same as data

    and ends with exit code 1 if a claim was not reproduced. For example
      ddln reproduce
      ddln reproduce --claim paper-theorem-1 --claim paper-equation-19
      ddln reproduce --seed 7 --problems 200 --out reproduced
      ddln reproduce --literature
      ddln reproduce --paper saxe2014 --paper zhao2026
    """

    claim: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A claim by its name, such as paper-theorem-1; several with commas or by giving the option again.
    All if not given."""
    literature: bool = False
    """Reproduce published numbers and laws of the literature instead."""
    paper: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """The claims of one paper of the literature, by the key of the bibliography that their names begin
    with; several with commas or by giving the option again. Implies --literature."""
    list: bool = False
    """Show the names of the claims, and measure none."""
    seed: int = 0
    """Of the random problems."""
    problems: int = 32
    """Number of random problems that each statement is measured on."""
    out: Path | None = None
    """The folder for the report; a new one below ddln-results if not given."""

"""The benchmarks of devices, without one: `benchmarks/ahead_of_time.py` and `benchmarks/gpu.py`."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
HloModule jit_run

%inner (p: (f64[4,3])) -> (f64[4,3]) {
  %p = (f64[4,3]{1,0}) parameter(0)
  %x = f64[4,3]{1,0} get-tuple-element(%p), index=0
  %twice = f64[4,3]{1,0} fusion(%x), kind=kLoop, calls=%fused
  ROOT %t = (f64[4,3]{1,0}) tuple(%twice)
}

%step (q: (s64[], f64[4,3])) -> (s64[], f64[4,3]) {
  %q = (s64[], f64[4,3]{1,0}) parameter(0)
  %i = s64[] get-tuple-element(%q), index=0
  %y = f64[4,3]{1,0} get-tuple-element(%q), index=1
  %l = (f64[4,3]{1,0}) while(%y), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"9"}}
  %z = f64[4,3]{1,0} get-tuple-element(%l), index=0
  %sum = f64[4,3]{1,0} fusion(%y, %z), kind=kLoop, calls=%fused
  ROOT %r = (s64[], f64[4,3]{1,0}) tuple(%i, %sum)
}

%c (p: s64[]) -> pred[] {
  %p.1 = s64[] parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main (a: f64[4,3]) -> f64[4,3] {
  %a = f64[4,3]{1,0} parameter(0)
  %w = (s64[], f64[4,3]) while(%a), condition=%c, body=%step, backend_config={"known_trip_count":{"n":"8"}}
  ROOT %out = f64[4,3]{1,0} get-tuple-element(%w), index=1
}
"""


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import ahead_of_time, gpu

    return ahead_of_time, gpu


def test_work_is_read_off_a_program(benchmarks):
    """A step is a fusion of two arrays and nine trips of a fusion of one; an array has 96 bytes."""
    ahead, _ = benchmarks
    program = ahead.computations(PROGRAM)
    assert ahead.step_cost(program, 8) == (10, 3 * 96 + 9 * 2 * 96)
    assert ahead.cost(program, "ENTRY") == (80, 8 * (3 * 96 + 9 * 2 * 96))


def test_growth_is_told(benchmarks):
    ahead, _ = benchmarks
    row = {"operations": 100, "kilobytes": 200.0, "memory": 1000, "tf32": 0, "seconds": 1.0}
    assert ahead.grown({"sweep": row}, {"sweep": {**row, "operations": 119, "seconds": 9.0}}) == []
    for worse in ({"operations": 121}, {"kilobytes": 250.0}, {"memory": 1300}, {"tf32": 1}):
        (told,) = ahead.grown({"sweep": row}, {"sweep": {**row, **worse}})
        assert next(iter(worse)) in told


def test_the_table_of_the_page_is_that_of_the_numbers(benchmarks):
    ahead, _ = benchmarks
    assert ahead.table(json.loads(ahead.RESULTS.read_text())) in ahead.PAGE.read_text()


def test_parts_that_fail_do_not_stop_the_others(benchmarks, tmp_path, monkeypatch):
    _, gpu = benchmarks

    def broken(sizes):
        raise RuntimeError("no memory")

    monkeypatch.setitem(gpu.PARTS, "limits", broken)
    out = tmp_path / "gpu.json"
    gpu.measure(gpu.SMALL._replace(flows=(64,)), ["flows", "limits", "roofline"], out)
    found = json.loads(out.read_text())
    assert found["failed"] == {"limits": "RuntimeError: no memory"}
    flows, copy, product = found["rows"]
    assert (flows["lanes"], flows["failed"]) == (64, 0)
    assert flows["error"] < 2e-5
    assert copy["bytes_per_second"] > 0 < product["flop_per_second"]
    assert found["machine"]["platform"] == "cpu"
    from benchmarks import gpu_page

    assert gpu_page.read(out) == found


def test_the_page_has_a_section_for_each_card(benchmarks, tmp_path):
    """Rates and times of the table are those of the rows; a row of another form is refused."""
    from benchmarks import gpu_page

    assert "Not measured yet" in gpu_page.section(tmp_path)
    rows = [
        {"case": "flows", "lanes": 100_000, "seconds": 2.0, "lanes_per_second": 5e4},
        {"case": "flows to t = 10", "lanes": 1024, "seconds": 0.1, "lanes_per_second": 1e4},
        {
            "case": "vmap of diffrax Tsit5 on the layers to t = 10",
            "lanes": 1024,
            "seconds": 20.0,
            "lanes_per_second": 50.0,
        },
        {"case": "copy", "seconds": 1.0, "bytes_per_second": 1e12},
    ]
    found = {"machine": {"card": "A card", "jax": "1"}, "rows": rows, "failed": {"limits": "full"}}
    file = tmp_path / "gpu-card.json"
    file.write_text(json.dumps(found))
    page = gpu_page.section(tmp_path)
    assert "### A card" in page
    assert "| 100000 flows: seconds | ≤ 2.5 | 2 | yes |" in page
    assert "| flows a second over `vmap` of diffrax Tsit5 | ≥ 100 | 200 | yes |" in page
    assert "| 1000000 flows: seconds |  | not timed |  |" in page
    assert "limits (full)" in page
    rows[0]["seconds"] = "2"
    file.write_text(json.dumps(found))
    with pytest.raises(ValueError, match="`seconds` of 'flows'"):
        gpu_page.section(tmp_path)

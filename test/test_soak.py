"""The figures of a soak: slopes, counts, and what the nodes say of themselves."""

import math
import os

import pytest

from mbrl_ros.benchmarks.soak import MEGABYTE, Sample, figures, sample, slope, store_megabytes, told


def samples(rate_mb_per_hour, seconds=1200, start=0.0, jump=0.0):
    """A sample every 2 s; `jump` MB more during the first 100 s."""
    moments = [start + 2.0 * i for i in range(seconds // 2)]
    extra = [jump * min(t - start, 100.0) / 100.0 for t in moments]
    return [
        Sample(t, round(MEGABYTE * (80 + rate_mb_per_hour * (t - start) / 3600 + e)), 20 + int(t - start > 600), 5)
        for t, e in zip(moments, extra, strict=True)
    ]


@pytest.mark.parametrize("rate", [0.0, 12.0, -3.0])
def test_the_slope_is_that_of_the_line(rate):
    assert slope(samples(rate, start=1e5)) == pytest.approx(rate, abs=1e-3)


def test_what_grows_in_the_warm_up_is_no_slope():
    assert figures(samples(0.0, jump=50.0), 1200.0)["memory_slope_mb_per_hour"] == pytest.approx(0.0, abs=1e-2)
    assert slope(samples(0.0, jump=50.0)) > 10.0


def test_files_and_threads_are_told_from_the_end_of_the_warm_up_to_the_end():
    row = figures(samples(0.0), 1200.0)
    assert (row["files_first"], row["files_last"], row["threads_first"], row["threads_last"]) == (20, 21, 5, 5)
    assert row["memory_mb"] == 80.0


def test_too_few_samples_have_no_slope():
    assert math.isnan(slope(samples(1.0)[:1]))
    assert figures([], 10.0) == {}


def test_the_kernel_is_asked_about_a_process():
    with open(os.devnull) as _:
        inside = sample(os.getpid(), 1.0)
    after = sample(os.getpid(), 2.0)
    assert inside.files == after.files + 1
    assert 5 * MEGABYTE < after.memory < 10_000 * MEGABYTE
    assert after.threads >= 1


def test_what_the_nodes_count_is_taken_from_the_diagnostics():
    said = {
        "mpc_controller: planning": {"deadline_misses": "3", "observations_skipped": "1", "planning_ms_p99": "12.5"},
        "pybullet_sim: figures": {"late_ticks": "2"},
        "model_learner: model": {"not_stored_yet": "0"},
    }
    assert told(said)["deadline_misses"] == 3
    assert told(said)["late_simulator_ticks"] == 2
    assert told({})["deadline_misses"] is None


def test_the_store_counts_with_its_log(tmp_path):
    for name, size in (("transitions.sqlite", MEGABYTE), ("transitions.sqlite-wal", MEGABYTE // 2), ("other", 99)):
        (tmp_path / name).write_bytes(b"x" * size)
    assert store_megabytes(tmp_path) == 1.5

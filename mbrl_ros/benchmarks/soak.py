"""``mbrl_ros bench soak``: the graph in real time for a long while; what grows, what leaks, what comes late?

Trial after trial with the default settings, never stopped by success. Every few seconds memory, file handles and
threads of each process are read from the kernel; the slope of the memory is a least-squares line through the samples
after the warm-up.
"""

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.benchmarks.faults.live_graph import LiveGraph
from mbrl_ros.benchmarks.faults.recording import Recording
from mbrl_ros.errors import MbrlError
from mbrl_ros.reporting.run_folder import TRANSITIONS, trial_indices
from mbrl_ros.transport import dds_environment

DOMAIN = 80  # ROS domain of the graph where none is given
EVERY = 2.0  # s between two samples
WARM_UP_SHARE, WARM_UP_LEAST = 0.25, 60.0  # of the time, in s: imports, compilation, first fits; at most half of it
START_TIMEOUT = 120.0  # s until the robot moves
KEPT = 5.0  # s of what was seen are kept
MEGABYTE, HOUR = 2**20, 3600.0
ENDLESS = {"trial_manager": {"trials": 10000, "stop_after_solved": 10000}}


@dataclass(frozen=True)
class Sample:
    """One process at one moment: time in s, resident memory in bytes, open files, threads."""

    moment: float
    memory: int
    files: int
    threads: int


def run_benchmark(arguments: argparse.Namespace) -> int:
    """Run the graph, print a row a process and the sums, write them as JSON where asked; 1 where a process has died."""
    result = soak(60.0 * arguments.minutes)
    print_result(result)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if result["died"] else 0


def soak(seconds: float) -> dict[str, Any]:
    """Everything that was measured of a graph in that time."""
    with running() as (graph, observer):
        seen: Recording = observer.recording
        samples: dict[str, list[Sample]] = {name: [] for name in graph.processes}
        flags: Counter[str] = Counter()
        loads = []
        counted = began = time.monotonic()
        before = len(graph.stored())
        while time.monotonic() < began + seconds and not graph.dead():
            time.sleep(EVERY)
            now = time.monotonic()
            for name, taken in samples.items():
                taken.append(sample(graph.pid(name), now))
            flags += Counter(seen.flags(counted, now))
            counted = now
            seen.forget(now - KEPT)
            loads.append(os.getloadavg()[0])
        return {
            "minutes": round((time.monotonic() - began) / 60.0, 2),
            "load": {"mean": round(float(np.mean(loads)), 1), "max": round(max(loads), 1)},
            "processes": {name: figures(s, seconds) for name, s in samples.items()},
            "flags": dict(flags),
            **told(observer.values),
            "trials": len(trial_indices(graph.folder)),
            "transitions": len(graph.stored()) - before,
            "store_mb": store_megabytes(graph.folder),
            "died": graph.dead(),
        }


@contextmanager
def running() -> Any:
    """A graph with the default settings whose robot moves, and the node that watches it."""
    os.environ.update({"ROS_DOMAIN_ID": str(DOMAIN)} | dds_environment(os.environ))
    from mbrl_ros.nodes.fault_observer import FaultObserver, Served

    with tempfile.TemporaryDirectory(prefix="mbrl_ros_soak_") as folder:
        graph, served = LiveGraph("direct", Path(folder), overrides=ENDLESS), Served()
        try:
            observer = served.add(FaultObserver(graph.robot, served.context))
            served.start()
            wait_for_motion(graph, observer.recording)
            yield graph, observer
        finally:
            graph.stop()
            served.close()


def wait_for_motion(graph: LiveGraph, seen: Recording) -> None:
    """Return when commands pass.

    Raises:
        MbrlError: none has for a long time, or a process has died.
    """
    end = time.monotonic() + START_TIMEOUT
    while not seen.passed_since(0.0):
        if time.monotonic() > end or graph.dead():
            raise MbrlError(f"the robot does not move; dead: {graph.dead() or 'none'}")
        time.sleep(0.1)


def sample(pid: int, moment: float) -> Sample:
    """What the kernel says of a process."""
    process = Path("/proc") / str(pid)
    pages = int((process / "statm").read_text().split()[1])
    files, threads = (len(list((process / name).iterdir())) for name in ("fd", "task"))
    return Sample(moment, pages * os.sysconf("SC_PAGE_SIZE"), files, threads)


def figures(samples: Sequence[Sample], seconds: float) -> dict[str, float | int]:
    """Memory in MB and its slope, files and threads at the end of the warm-up and at the end."""
    if not samples:
        return {}
    warm_up = min(max(WARM_UP_SHARE * seconds, WARM_UP_LEAST), 0.5 * seconds)
    kept = [s for s in samples if s.moment >= samples[0].moment + warm_up] or list(samples[-1:])
    return {
        "memory_mb": round(kept[-1].memory / MEGABYTE, 1),
        "memory_slope_mb_per_hour": round(slope(kept), 2),
        "files_first": kept[0].files,
        "files_last": kept[-1].files,
        "threads_first": kept[0].threads,
        "threads_last": kept[-1].threads,
    }


def slope(samples: Sequence[Sample]) -> float:
    """Least-squares slope of the memory in MB/h; NaN of fewer than two samples."""
    if len(samples) < 2:
        return float("nan")
    hours = np.array([s.moment for s in samples]) / HOUR
    memory = np.array([s.memory for s in samples]) / MEGABYTE
    return float(np.polyfit(hours - hours.mean(), memory, 1)[0])


def told(values: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What the nodes count themselves; None where one has said nothing."""

    def count(status: str, key: str) -> int | None:
        text = values.get(status, {}).get(key)
        return None if text is None else int(text)

    planning = values.get("mpc_controller: planning", {})
    return {
        "deadline_misses": count("mpc_controller: planning", "deadline_misses"),
        "observations_skipped": count("mpc_controller: planning", "observations_skipped"),
        "planning_ms_p99": float(planning.get("planning_ms_p99", "nan")),
        "late_simulator_ticks": count("pybullet_sim: figures", "late_ticks"),
        "not_stored_yet": count("model_learner: model", "not_stored_yet"),
    }


def store_megabytes(folder: Path) -> float:
    """Size of the transition store with its log in MB."""
    return round(sum(p.stat().st_size for p in folder.glob(f"{TRANSITIONS}*")) / MEGABYTE, 3)


def print_result(result: Mapping[str, Any]) -> None:
    """The figures as a table."""
    print(f"{'process':16}  {'MB':>7}  {'MB/h':>8}  {'files':>11}  {'threads':>9}")
    for name, row in result["processes"].items():
        if row:
            files = f"{row['files_first']} -> {row['files_last']}"
            threads = f"{row['threads_first']} -> {row['threads_last']}"
            print(
                f"{name:16}  {row['memory_mb']:7.1f}  {row['memory_slope_mb_per_hour']:8.2f}  {files:>11}  {threads:>9}"
            )
    for name, value in result.items():
        if name != "processes":
            print(f"{name}: {value}")

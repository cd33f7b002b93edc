"""Timing in pairs: contestants in processes of their own, called in turn, so that a busy machine slows all alike."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.errors import MbrlError


class WorkerError(MbrlError):
    """A worker that answers with an error, too late, or not at all."""


class Worker:
    """A process that answers JSON lines, see `peers/serve.py`."""

    def __init__(self, python: str | Path, script: Path, threads: int) -> None:
        """Start `script`; its libraries may use up to `threads` threads where they are not told otherwise."""
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = dict(os.environ) | dict.fromkeys(names, str(threads))
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [str(python), str(script)], env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, request: Mapping[str, Any], timeout: float = 300.0) -> dict[str, Any]:
        """The answer to a request.

        Args:
            request: anything JSON can hold.
            timeout: s, after which the process is ended.

        Raises:
            WorkerError: an error, silence past the timeout, or a process that ended.
        """
        assert self._process.stdin and self._process.stdout
        watchdog = threading.Timer(timeout, self._process.kill)
        watchdog.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watchdog.cancel()
        if not line:
            raise WorkerError(f"the process ended with exit status {self._process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@dataclass
class Contestant:
    """One thing to time.

    Attributes:
        name: what tables call it.
        worker: where it runs.
        key: its name within the worker.
        threads: threads it may use.
        calls: calls in one block.
        info: what the worker says about it: its result, how it converged.
        blocks: ms of the calls of each block.
        slow: too slow to be called again; its first call is its only block.
    """

    name: str
    worker: Worker
    key: str
    threads: int
    calls: int
    info: dict[str, Any] = field(default_factory=dict)
    blocks: list[list[float]] = field(default_factory=list)
    slow: bool = False

    def build(self, settings: Mapping[str, Any], contestant: str, slow_ms: float = float("inf")) -> None:
        """Have the worker build it and call it once; past `slow_ms` that call is all there will be."""
        request = {"op": "build", "key": self.key, "threads": self.threads, "contestant": contestant}
        reply = self.worker.ask(dict(settings) | request)
        self.info, self.slow = reply["info"], reply["first_ms"] > slow_ms
        self.blocks = [[reply["first_ms"]]] if self.slow else []

    def time(self) -> None:
        """Add a block."""
        if not self.slow:
            self.blocks.append(self.worker.ask({"op": "time", "key": self.key, "calls": self.calls})["ms"])

    @property
    def block_medians(self) -> np.ndarray:
        """Median ms of each block."""
        return np.array([np.median(block) for block in self.blocks])

    @property
    def median(self) -> float:
        """Median ms of all calls."""
        return float(np.median(np.concatenate(self.blocks)))


def alternate(contestants: Sequence[Contestant], repeats: int, budget: float = float("inf")) -> None:
    """Time all of them in turn, `repeats` times; past `budget` s no new turn begins after the second."""
    start = time.perf_counter()
    for turn in range(repeats):
        if turn >= 2 and time.perf_counter() - start > budget:
            break
        for contestant in contestants:
            contestant.time()


def paired_ratios(numerator: Contestant, denominator: Contestant) -> np.ndarray:
    """Ratio of the two in each turn; where one was called only once, that call against every turn of the other."""
    a, b = numerator.block_medians, denominator.block_medians
    if min(len(a), len(b)) == 1:
        return a / b
    turns = min(len(a), len(b))
    return a[:turns] / b[:turns]

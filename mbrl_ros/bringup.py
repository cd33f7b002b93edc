"""Brings the graph up as processes, watches over them and takes them down. Used where `ros2 launch` is missing.

A process of its own for each node: learning never steals time from control, and a crash of one leaves the
others standing, to be stopped in order.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mbrl_ros.errors import MissingDependencyError
from mbrl_ros.graph import GRAPH, LEARNER, RECORDER, VIEWERS, NodeSpec
from mbrl_ros.transport import dds_environment

NEVER_MISSED = tuple(spec.name for spec in (*VIEWERS, RECORDER))  # the run goes on without them
BACKGROUND = (LEARNER, *NEVER_MISSED)  # must not take time from control
STOP_TIMEOUT = 8.0  # s between asking a process to end and killing it: a recorder may need 7 to end its bag
LAST = "trial_manager"  # its end is the end of the run
FIRST_TO_STOP = "command_guard"  # it leaves the actuators safe while the others are still there
LEAVE_TIMEOUT = 1.0  # s that the others wait for that
INTERRUPTED = 130  # exit code, as of a shell
LOG_TAIL = 12  # lines of a dead node's log that are shown
ENVIRONMENT = {  # one thread each: the products are small, and the cores are shared by the nodes
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    # glibc hands arrays of 128 KiB and more back at once, and the kernel clears them again: half of a fit's time
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
}
PACKAGES = {  # package of the nodes or the report -> what installs it
    "rclpy": "source a ROS 2 Jazzy installation, or pip install -r requirements-ros.txt",
    "torch": "pip install torch==2.13.0",
    "pybullet": "pip install pybullet",
    "numba": "pip install numba",
    "safetensors": "pip install safetensors",
    "scipy": "pip install scipy",
    "matplotlib": "pip install matplotlib",
    "PIL": "pip install pillow",
}
Remappings = Mapping[str, Sequence[tuple[str, str]]]  # node -> topics, from and to
NO_REMAPPINGS: Remappings = {}
ENCLAVE = "ROS_SECURITY_ENCLAVE_OVERRIDE"  # environment variable of rcl


@dataclass(frozen=True)
class Ending:
    """How the graph came down.

    Attributes:
        code: exit code for the command line.
        died: name of the node that died first, empty where none did.
        why: its exit status and the end of its log.
    """

    code: int
    died: str = ""
    why: str = ""


class Graph:
    """The processes of one graph."""

    def __init__(
        self,
        params_file: Path,
        logs: Path,
        namespace: str,
        log_level: str,
        nodes: Sequence[NodeSpec] = GRAPH,
        remappings: Remappings = NO_REMAPPINGS,
    ) -> None:
        """Start every node.

        Args:
            params_file: parameters of all nodes.
            logs: folder for one log file a node.
            namespace: ROS namespace, empty for none.
            log_level: of the ROS loggers.
            nodes: which nodes.
            remappings: of topics, by node.
        """
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._lost: set[str] = set()  # viewers that have ended
        environment = dds_environment(os.environ) | ENVIRONMENT
        self.processes = {
            spec.name: start(
                spec.name,
                node_arguments(params_file, namespace, log_level, remappings.get(spec.name, ())),
                logs,
                environment,
            )
            for spec in nodes
        }
        pin(self.processes)

    def ended(self) -> Ending | None:
        """How the run ended, or None while it goes on. A node that ends with 0 was asked to."""
        for name, process in self.processes.items():
            code = process.poll()
            if name in NEVER_MISSED:
                self._note_loss(name, code)
                continue
            if code == 0 and name != LAST:
                return Ending(INTERRUPTED)
            if code:
                return Ending(1, name, f"{exit_status(code)}\n{tail(self._logs / f'{name}.log')}".strip())
        last = self.processes.get(LAST)
        return Ending(0) if last is not None and last.poll() == 0 else None

    def _note_loss(self, name: str, code: int | None) -> None:
        """Say once that a viewer has ended."""
        if code is not None and name not in self._lost:
            self._lost.add(name)
            print(f"{name} has ended ({exit_status(code)}); the run goes on without it: {self._logs / f'{name}.log'}")

    def stop(self) -> None:
        """Ask every process to end, the one that moves the robot first; kill what does not."""
        for name in sorted(self.processes, key=lambda n: n != FIRST_TO_STOP):
            process = self.processes[name]
            if process.poll() is None:
                process.terminate()  # not SIGINT: a traceback where a node is still importing
            if name == FIRST_TO_STOP:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LEAVE_TIMEOUT)
        end = time.monotonic() + STOP_TIMEOUT
        for process in self.processes.values():
            try:
                process.wait(max(end - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def require_packages(without: Sequence[str] = ()) -> None:
    """Look for the packages that the nodes and the report need, before anything starts.

    Raises:
        MissingDependencyError: names every missing package and what installs it.
    """
    missing = [
        f"{name} is not installed: {how}"
        for name, how in PACKAGES.items()
        if name not in without and find_spec(name) is None
    ]
    if missing:
        raise MissingDependencyError("\n".join(missing))


def node_arguments(
    params_file: Path, namespace: str, log_level: str, remappings: Sequence[tuple[str, str]] = ()
) -> list[str]:
    """ROS arguments of a node process."""
    remap = [word for names in (clock_of(namespace), *remappings) for word in ("-r", ":=".join(names))]
    if namespace.strip("/"):
        remap += ["-r", f"__ns:=/{namespace.strip('/')}"]
    return ["--ros-args", "--params-file", str(params_file), *remap, "--log-level", log_level]


def enclave(name: str) -> str:
    """Security enclave of a process, as in config/sros2/policy.xml; of no effect where security is off."""
    return f"/mbrl_ros/{name}"


def clock_of(namespace: str) -> tuple[str, str]:
    """Remapping of /clock to that of the namespace: graphs in lockstep have a time each, and may share a ROS domain."""
    return "/clock", "/".join(["", *filter(None, namespace.split("/")), "clock"])


def start(name: str, arguments: Sequence[str], logs: Path, environment: Mapping[str, str]) -> subprocess.Popen:
    """Start one node in a session of its own, so that Ctrl-C reaches it only through us, in order."""
    with (logs / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"mbrl_ros.nodes.{name}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environment) | {ENCLAVE: enclave(name)},
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no thread of ours runs yet; one call, no locks
        )


def die_with_parent() -> None:
    """Have the kernel end this process when its parent dies, so that a killed run leaves no robot moving (Linux)."""
    set_death_signal = 1  # PR_SET_PDEATHSIG in <sys/prctl.h>
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


def pin(processes: Mapping[str, subprocess.Popen]) -> None:
    """Training and pictures to the last core, everything else to the others, so that they never delay control."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return
    for name, process in processes.items():
        try:
            os.sched_setaffinity(process.pid, cores[-1:] if name in BACKGROUND else cores[:-1])
        except ProcessLookupError:
            continue  # it is dead already; `ended` will tell


def exit_status(code: int) -> str:
    """Exit code of a process in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def tail(path: Path) -> str:
    """Last lines of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_TAIL:]) if path.exists() else ""


def watch(graph: Graph, serve: Callable[[], None], interrupted: Callable[[], bool]) -> Ending:
    """Serve the view until the run ends, a node dies or the user interrupts; then stop what is left."""
    try:
        while not interrupted():
            ending = graph.ended()
            if ending is not None:
                return ending
            serve()
        return Ending(130)
    finally:
        graph.stop()

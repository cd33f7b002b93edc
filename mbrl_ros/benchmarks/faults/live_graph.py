"""The live graph: processes as `mbrl_ros sim` starts them, which may be killed and started again."""

import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from mbrl_ros.benchmarks.faults.topics import original, relayed_by
from mbrl_ros.bringup import ENVIRONMENT, exit_status, node_arguments, pin, start, tail
from mbrl_ros.errors import MbrlError
from mbrl_ros.graph import GRAPH
from mbrl_ros.params_file import resolve, write_run_parameters
from mbrl_ros.reporting.run_folder import PARAMETERS, TRANSITIONS
from mbrl_ros.resources import share_directory
from mbrl_ros.robots.description import RobotDescription, load_robot
from mbrl_ros.transport import dds_environment

TRIAL = 12.0  # s: time for a fault and what comes of it
VARIANTS = ("direct", "relay", "link")  # as it is; with the relay in its topics; with the link watchdog
LINK = "link_watchdog"
GUARDED = "effort_controller/commands:=guarded_commands"  # how docs/safety.md puts the link watchdog behind the guard
SMALL = {  # what it learns does not matter here; the machine is to be able to hold the rate
    "mpc_controller": {"horizon": 8, "cem.samples": 16, "cem.rounds": 2, "cem.elites": 4},
    "model_learner": {
        "refit_every": 15,
        "gaussian_process.max_data": 40,
        "gaussian_process.iterations": 5,
        "gaussian_process.refit_iterations": 2,
    },
    "trial_manager": {"trials": 10000, "stop_after_solved": 10000, "base_trials": 0},
}
STOP_TIMEOUT = 3.0  # s between asking the processes to end and killing them


class LiveGraph:
    """One graph of processes that are not watched: what dies stays dead until `restart`."""

    def __init__(self, variant: str, folder: Path, overrides: dict[str, dict[str, Any]] | None = None) -> None:
        """Start every node.

        Args:
            variant: one of VARIANTS.
            folder: for the robot, the run and the logs.
            overrides: parameters by node instead of SMALL.
        """
        self.variant = variant
        robot = write_robot(folder, endless=overrides is None)
        self.robot: RobotDescription = load_robot(str(robot))
        parameters = resolve({"robot": str(robot)}, None, SMALL if overrides is None else overrides)
        self.folder = write_run_parameters(parameters, folder / "run", "", "mbrl_ros bench")
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        self._environment = dds_environment(os.environ) | ENVIRONMENT
        self._robot_file = robot
        names = [spec.name for spec in GRAPH] + ([LINK] if variant == "link" else [])
        self.processes: dict[str, subprocess.Popen] = {name: self._start(name) for name in names}
        pin(self.processes)

    def kill(self, name: str) -> None:
        """Kill -9."""
        self.processes[name].kill()
        self.processes[name].wait()

    def restart(self, name: str) -> None:
        """Start a dead node again, as a supervisor would."""
        self.processes[name] = self._start(name)
        pin(self.processes)

    def dead(self) -> dict[str, str]:
        """Nodes that are dead, and how they ended."""
        codes = {name: process.poll() for name, process in self.processes.items()}
        return {name: self._ending(name, code) for name, code in codes.items() if code is not None}

    def pid(self, name: str) -> int:
        """Process number of a node."""
        return self.processes[name].pid

    def stored(self) -> set[int]:
        """Stamps of all transitions in the store."""
        path = self.folder / TRANSITIONS
        if not path.exists():
            return set()
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10.0)) as db:
                return {stamp for (stamp,) in db.execute("SELECT stamp_ns FROM transitions")}
        except sqlite3.Error as error:
            raise MbrlError(f"{path}: {error}") from None

    def stop(self) -> None:
        """Ask every process to end, the simulator last; kill what does not."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str) -> subprocess.Popen:
        arguments = node_arguments(self.folder / PARAMETERS, "", "info")
        if self.variant == "relay":
            arguments += [word for topic in relayed_by(name) for word in ("-r", f"{topic}:={original(topic)}")]
        if self.variant == "link" and name == "command_guard":
            arguments += ["-r", GUARDED]
        if name == LINK:
            arguments += ["-p", f"robot:={self._robot_file}"]
        return start(name, arguments, self.logs, self._environment)

    def _ending(self, name: str, code: int) -> str:
        return f"{exit_status(code)}: {tail(self.logs / f'{name}.log').splitlines()[-1:]}"


def write_robot(folder: Path, endless: bool) -> Path:
    """The cart-pole; endless: with long trials that the end of the rail does not end."""
    source = share_directory() / "config" / "robots"
    description = yaml.safe_load((source / "cartpole.yaml").read_text())
    urdf = (source / description["urdf"]).read_text()
    if endless:
        description |= {"trial_duration": TRIAL, "position_limit": [float("inf"), float("inf")]}
        urdf = urdf.replace('lower="-2.5" upper="2.5"', 'lower="-1000" upper="1000"')
    (folder / description["urdf"]).write_text(urdf)
    path = folder / "cartpole.yaml"
    path.write_text(yaml.safe_dump(description))
    return path

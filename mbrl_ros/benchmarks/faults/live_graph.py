"""The live graph: processes as `mbrl_ros sim` starts them, which may be killed and started again."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from mbrl_ros.benchmarks.faults.topics import original, relayed_by
from mbrl_ros.bringup import ENVIRONMENT, exit_status, node_arguments, pin, start, tail
from mbrl_ros.commands.robot import safe_defaults
from mbrl_ros.errors import MbrlError
from mbrl_ros.graph import GRAPH, MANAGER, RECORDER, SIMULATOR, VISUALIZER, WEB_VIEW
from mbrl_ros.params_file import resolve, write_run_parameters
from mbrl_ros.reporting.run_folder import PARAMETERS, TRANSITIONS
from mbrl_ros.robots.description import RobotDescription, load_robot, robot_path
from mbrl_ros.transport import dds_environment

TRIAL = 12.0  # s: time for a fault and what comes of it
VARIANTS = ("direct", "relay", "link", "beside")  # as it is; relay in its topics; link watchdog; with BESIDE_GRAPH
LINK = "link_watchdog"
BESIDE_GRAPH = tuple(spec.name for spec in (RECORDER, VISUALIZER, WEB_VIEW, MANAGER))  # nobody may depend on them
GUARDED = "guarded_commands"  # where docs/safety.md puts the link watchdog behind the guard
STAND_IN = "fault_robot"  # in place of the simulator for robots that PyBullet does not simulate
SMALL: dict[str, dict[str, Any]] = {  # what it learns does not matter here; the machine is to be able to hold the rate
    "mpc_controller": {"horizon": 8, "cem.samples": 16, "cem.rounds": 2, "cem.elites": 4},
    "model_learner": {
        "refit_every": 15,
        "gaussian_process.max_data": 40,
        "gaussian_process.iterations": 5,
        "gaussian_process.refit_iterations": 2,
    },
    "trial_manager": {"trials": 10000, "stop_after_solved": 10000, "base_trials": 0},
}
UNATTENDED: dict[
    str, dict[str, Any]
] = {  # for a stand-in: nobody starts trials or resets stops, and a planner would soon rest at its goal
    "trial_manager": {"base_trials": 10000, "operator": False},
    "command_guard": {"guard.state_action": "none"},
}
STOP_TIMEOUT = 3.0  # s between asking the processes to end and killing them


class LiveGraph:
    """One graph of processes that are not watched: what dies stays dead until `restart`."""

    def __init__(
        self,
        variant: str,
        folder: Path,
        robot_name: str = "cartpole",
        overrides: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """Start every node.

        Args:
            variant: one of VARIANTS.
            folder: for the robot, the run and the logs.
            robot_name: a robot's name or the path of its YAML.
            overrides: parameters by node instead of those of the fault matrix.
        """
        self.variant = variant
        robot = write_robot(folder, robot_name, endless=overrides is None)
        self.robot: RobotDescription = load_robot(str(robot))
        parameters = resolve(
            {"robot": str(robot)}, None, matrix_parameters(self.robot) if overrides is None else overrides
        )
        self.folder = write_run_parameters(parameters, folder / "run", "", "mbrl_ros bench")
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        self._environment = dds_environment(os.environ) | ENVIRONMENT
        self._robot_file = robot
        names = [spec.name for spec in GRAPH]
        names += [LINK] if variant == "link" else BESIDE_GRAPH if variant == "beside" else []
        self._port = free_port()
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
            arguments += [
                word for topic in relayed_by(name, self.robot) for word in ("-r", f"{topic}:={original(topic)}")
            ]
        if self.variant == "link" and name == "command_guard":
            arguments += ["-r", f"{self.robot.output_topic}:={GUARDED}"]
        if name in (LINK, *BESIDE_GRAPH):
            arguments += ["-p", f"robot:={self._robot_file}", "-p", f"output:={self.folder}"]
        if name == WEB_VIEW.name:
            arguments += ["-p", f"port:={self._port}"]
        return start(self._module(name), arguments, self.logs, self._environment)

    def _module(self, name: str) -> str:
        return STAND_IN if name == SIMULATOR and is_kinematic(self.robot) else name

    def _ending(self, name: str, code: int) -> str:
        return f"{exit_status(code)}: {tail(self.logs / f'{self._module(name)}.log').splitlines()[-1:]}"


def is_kinematic(robot: RobotDescription) -> bool:
    """Whether PyBullet, which takes efforts, does not simulate it: a stand-in follows its commands."""
    return robot.command_interface != "effort" or robot.base != "none"


def matrix_parameters(robot: RobotDescription) -> dict[str, dict[str, Any]]:
    """Parameters by node with which the matrix runs a robot."""
    if not is_kinematic(robot):
        return SMALL
    layers: tuple[dict[str, dict[str, Any]], ...] = (
        safe_defaults(robot),
        SMALL,
        UNATTENDED,
    )  # as on the robot, without an operator
    return {
        node: {k: v for layer in layers for k, v in layer.get(node, {}).items()}
        for node in (spec.name for spec in GRAPH)
    }


def free_port() -> int:
    """A TCP port of this machine that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def write_robot(folder: Path, name: str, endless: bool) -> Path:
    """A robot without delays; endless: with long trials that no end of a joint or fence ends."""
    source = robot_path(name)
    description = yaml.safe_load(source.read_text())
    description.pop("delay", None)
    urdf = (source.parent / description["urdf"]).read_text() if "urdf" in description else ""
    if endless:
        description["trial_duration"] = TRIAL
    if endless and description["command_interface"] != "position":
        description.pop("position_limit", None)
        urdf = re.sub(r'lower="[^"]*" upper="[^"]*"', 'lower="-1000" upper="1000"', urdf)
    if urdf:
        (folder / description["urdf"]).write_text(urdf)
    path = folder / f"{description['name']}.yaml"
    path.write_text(yaml.safe_dump(description))
    return path

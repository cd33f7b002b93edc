"""``mbrl_ros check``: a table of what is right with a robot's YAML and, with ``--live``, with the running robot."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from mbrl_ros.commands.offline_check import offline_findings
from mbrl_ros.errors import ConfigError
from mbrl_ros.params_file import check_namespace
from mbrl_ros.robots.description import RobotDescription, load_robot
from mbrl_ros.robots.findings import FIX, Finding
from mbrl_ros.transport import dds_environment

SHORTEST = 0.5  # s of listening


def run(arguments: argparse.Namespace) -> int:
    """Body of the command; returns 0, or 1 where something must be fixed."""
    if not SHORTEST <= arguments.seconds <= 3600:
        raise ConfigError(f"--seconds: {arguments.seconds:g} is not allowed; expected {SHORTEST:g} to 3600")
    check_namespace(arguments.namespace)
    robot, rows = findings(arguments.file)
    if arguments.live and robot is not None:
        rows += live_findings(robot, arguments.namespace, arguments.seconds)
    print(table(rows))
    return int(any(row.verdict == FIX for row in rows))


def findings(path: Path) -> tuple[RobotDescription | None, list[Finding]]:
    """The robot, where its YAML can be read, and the rows that need no robot."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        robot = load_robot(str(path))
    except ConfigError as error:
        rows = [Finding("description", FIX, line.removeprefix(f"{path}: ")) for line in str(error).splitlines()]
        return None, rows
    known = f"{robot.name}: {len(robot.joints)} joints, base {robot.base}, {len(robot.actuators)} actuators"
    return robot, [Finding("description", "ok", known), *offline_findings(robot, path)]


def live_findings(robot: RobotDescription, namespace: str, seconds: float) -> list[Finding]:
    """The rows that need the running robot."""
    os.environ.update(dds_environment(os.environ))
    from mbrl_ros.nodes.live_check import listen_to_robot

    return listen_to_robot(robot, namespace, seconds)


def table(rows: Sequence[Finding]) -> str:
    """The rows as text."""
    what, verdict = (max(len(getattr(row, key)) for row in rows) for key in ("what", "verdict"))
    lines = [f"{row.what.ljust(what)}  {row.verdict.ljust(verdict)}  {row.detail}".rstrip() for row in rows]
    count = sum(row.verdict == FIX for row in rows)
    return "\n".join([*lines, f"{count} to fix" if count else "nothing to fix"])

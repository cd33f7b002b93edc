"""``mbrl_ros data check | recover``: what is left of a damaged transition store."""

import argparse

from mbrl_ros.commands.sources import store_path
from mbrl_ros.data.recovery import Findings, examine, recover
from mbrl_ros.robots.description import load_robot

DAMAGED = 1  # exit code of `check`
GAPS_SHOWN = 5


def run(arguments: argparse.Namespace) -> int:
    """Body of the command; `check` returns 0 for an intact store and 1 for a damaged one."""
    robot = load_robot(arguments.robot) if arguments.robot else None
    path = store_path(arguments.file)
    findings = examine(path, robot.name, robot.layout) if robot else examine(path)
    print(describe(findings))
    if arguments.action == "recover":
        recover(findings, arguments.out)
        print(f"saved {len(findings.rows)} transitions into {arguments.out}")
        return 0
    if findings.complaints:
        print(f"to save them: mbrl_ros data recover {arguments.file} OUT")
    return DAMAGED if findings.complaints else 0


def describe(findings: Findings) -> str:
    """What was found, for people."""
    trials = len({row.trial for row in findings.rows})
    lines = [
        f"robot {findings.robot}",
        *(f"damaged: {complaint}" for complaint in findings.complaints or ()),
        f"{len(findings.rows)} transitions of {trials} trials can be saved",
    ]
    if not findings.complaints:
        lines[1:] = [f"intact: {findings.readable} transitions of {trials} trials"]
    if findings.unverified:
        lines.append(f"{findings.unverified} of them have no checksum: an earlier version stored them")
    if gaps := findings.missing:
        shown = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in gaps[:GAPS_SHOWN])
        more = f" and {len(gaps) - GAPS_SHOWN} more gaps" if len(gaps) > GAPS_SHOWN else ""
        lines.append(f"{sum(b - a + 1 for a, b in gaps)} are lost: numbers {shown}{more}")
    if findings.complaints:
        lines.append("what came after the last of them, if anything did, cannot be known")
    return "\n".join(lines)

"""``mbrl_ros bag import | export | recover``: between bags and transition stores, and damaged bags."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mbrl_ros.commands.sources import import_bag, load_settings, store_path
from mbrl_ros.commands.text_table import left_out_table
from mbrl_ros.data.bag_export import export_bag
from mbrl_ros.data.bag_import import Imported, shifted
from mbrl_ros.data.bag_recovery import recover_bag
from mbrl_ros.data.store_format import Row, read_store
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import MbrlError
from mbrl_ros.robots.description import RobotDescription, load_robot


def run(arguments: argparse.Namespace) -> int:
    """Body of the command; returns the exit code."""
    return {"import": import_bags, "export": export, "recover": recover}[arguments.action](arguments)


def import_bags(arguments: argparse.Namespace) -> int:
    """Add the transitions of bags to a store; all bags are read before anything is stored."""
    robot = load_robot(arguments.robot)
    settings = load_settings({"robot": arguments.robot}, arguments.params_file)
    found = []
    for path in arguments.bags:
        found.append(import_bag(path, robot, settings, arguments.namespace, arguments.everything))
        print(f"{path}: {len(found[-1].rows)} transitions")
    left_out = sum((bag.left_out for bag in found), Counter[str]())
    count = sum(len(bag.rows) for bag in found)
    if count:
        new, total = store_all(found, arguments.output, robot)
        left_out["stored already, or in two of the bags"] += count - new
    print(left_out_table(+left_out))
    if not count:
        raise MbrlError("no transition in these bags; the table says why")
    print(f"{arguments.output}: {new} transitions added, {total} in all")
    return 0


def store_all(found: Sequence[Imported], output: Path, robot: RobotDescription) -> tuple[int, int]:
    """Add transitions to a store, made where missing; returns how many are new and how many there are then."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with TransitionStore(output, robot.name, robot.layout) as store:
        rows: list[Row] = []
        trajectory, trial = store.next_trajectory, store.last_trial + 1
        for bag in found:
            rows += shifted(bag.rows, trajectory, trial)
            trajectory = max([trajectory - 1, *(row.trajectory for row in rows)]) + 1
            trial = max([trial - 1, *(row.trial for row in rows)]) + 1
        return store.append_all(rows), len(store)


def export(arguments: argparse.Namespace) -> int:
    """Write a store as a bag."""
    robot, layout, rows = read_store(store_path(arguments.data))
    count = export_bag(rows, layout, robot, arguments.bag, arguments.format, arguments.namespace)
    print(f"{arguments.bag}: {len(rows)} transitions in {count} messages; ros2 bag play {arguments.bag}")
    return 0


def recover(arguments: argparse.Namespace) -> int:
    """Save what a damaged bag has."""
    found = recover_bag(arguments.bag, arguments.out)
    print(
        f"{arguments.out}: {len(found.messages)} messages; lost: {found.lost_chunks} chunks that cannot be read, "
        f"{found.lost_bytes} bytes at the end"
    )
    return 0

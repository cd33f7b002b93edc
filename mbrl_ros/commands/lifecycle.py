"""``mbrl_ros lifecycle``: what ``ros2 service call /lifecycle_manager/...`` does, where the ros2 command is missing."""

import argparse
import os
import sys

from mbrl_ros.transport import dds_environment


def run(arguments: argparse.Namespace) -> int:
    """Body of the command; returns the exit code."""
    os.environ.update(dds_environment(os.environ))
    from mbrl_ros.nodes.lifecycle_client import call_manager

    done, said = call_manager(arguments.action, arguments.namespace)
    print(said, file=sys.stdout if done else sys.stderr)
    return 0 if done else 1

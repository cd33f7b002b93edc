"""``mbrl_ros trial`` and ``mbrl_ros model``: what ``ros2 service call`` does, where the ros2 command is missing."""

import argparse
import os
import sys

from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import LEARNER
from mbrl_ros.transport import dds_environment

OWNERS = {"trial": "trial_manager", "model": LEARNER}


def run(arguments: argparse.Namespace) -> int:
    """Body of the commands; returns the exit code.

    Raises:
        MbrlError: the service is not there, or a file was given or left out where that makes no sense.
    """
    file = getattr(arguments, "file", None)
    if file is not None and arguments.action != "load":
        raise ConfigError(f"file: '{file}' is not allowed with {arguments.action}; expected none")
    os.environ.update(dds_environment(os.environ))
    from mbrl_ros.nodes.service_client import ServiceClient

    owner = OWNERS[arguments.command]
    with ServiceClient(arguments.namespace) as client:
        if file is not None:
            (taken,) = client.set(owner, {"start_model": str(file.resolve())})
            if not taken[0]:
                raise ConfigError(taken[1])
        done, said = client.trigger(f"{owner}/{arguments.action}", arguments.timeout)
    print(said, file=sys.stdout if done else sys.stderr)
    return 0 if done else 1

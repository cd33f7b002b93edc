"""``ros2 bag record`` as a child process, for machines where rosbag2 is installed."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from mbrl_ros.bringup import die_with_parent
from mbrl_ros.data.recorded_topics import RecordedTopic
from mbrl_ros.errors import MissingDependencyError

PACKAGES = ("ros2bag", "rosbag2_storage_mcap")
DEPTH = 1000  # messages of a topic that wait for the recorder at most
STOP_TIMEOUT = 7.0  # s that it has to end its bag


def missing_packages() -> list[str]:
    """What of rosbag2 is not installed."""
    missing = [] if shutil.which("ros2") else ["ros2cli"]
    for package in PACKAGES:
        try:
            get_package_prefix(package)
        except (PackageNotFoundError, OSError):  # the latter where no ROS is sourced
            missing.append(package)
    return missing


def qos_overrides(topics: Sequence[RecordedTopic]) -> str:
    """QoS of the subscriptions, in the form of ``--qos-profile-overrides-path``."""
    return yaml.safe_dump(
        {
            topic.name: {
                "history": "keep_last",
                "depth": DEPTH,
                "reliability": "reliable" if topic.reliable else "best_effort",
                "durability": "transient_local" if topic.latched else "volatile",
            }
            for topic in topics
        }
    )


def record_command(path: Path, topics: Sequence[RecordedTopic], overrides: Path) -> list[str]:
    """Command line that records these topics into the bag `path`."""
    options = ["--storage", "mcap", "--output", str(path), "--qos-profile-overrides-path", str(overrides)]
    return ["ros2", "bag", "record", *options, "--topics", *(topic.name for topic in topics)]


class Rosbag2Recording:
    """A running ``ros2 bag record``.

    Attributes:
        path: folder of the bag.
        problem: why the recording has ended, empty while it goes on.
    """

    written = dropped = size = 0  # known to rosbag2 only

    def __init__(self, path: Path, topics: Sequence[RecordedTopic]) -> None:
        """Begin to record.

        Raises:
            MissingDependencyError: rosbag2 is not installed.
        """
        if missing := missing_packages():
            raise MissingDependencyError(
                f"storage: rosbag2 needs {', '.join(missing)}: sudo apt install ros-jazzy-rosbag2 "
                "ros-jazzy-rosbag2-storage-mcap; or take storage: rosbags"
            )
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        overrides = path.with_name(f"{path.name}_qos.yaml")
        overrides.write_text(qos_overrides(topics))
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        self._process = subprocess.Popen(
            record_command(path, topics, overrides),
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches it only through us
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one call, no locks
        )

    @property
    def problem(self) -> str:
        """See the class."""
        code = self._process.poll()
        return "" if code is None else f"{self.path}: ros2 bag record has ended with exit code {code}"

    def close(self) -> None:
        """Have it end its bag."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

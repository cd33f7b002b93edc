"""The recorder: writes all that a replay needs into a bag. No part of control, and never missed when it is gone."""

import functools
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from mbrl_ros.data.bag_folders import PARAMETERS, next_bag
from mbrl_ros.data.recorded_topics import DESCRIPTION, RecordedTopic, recorded_topics
from mbrl_ros.errors import ConfigError
from mbrl_ros.nodes.pipeline_node import ERROR, LATCHED, OK, WARN, PipelineNode, run, spin_until
from mbrl_ros.nodes.rosbag2 import Rosbag2Recording, missing_packages
from mbrl_ros.robots.urdf_text import urdf_text

NICENESS = 10  # writing waits for whoever controls
DEPTH = 1000  # messages of a topic that wait for this process at most
LINGER = 0.3  # s for the others' last words, once this process is asked to end


class Recorder(PipelineNode):
    """Subscribes to everything in raw form and passes it on to a `BagWriter`, or has ``ros2 bag record`` do that."""

    what = "recording"

    def __init__(self) -> None:
        super().__init__("recorder")
        cfg = self.config
        self.path = self.bag_folder()
        self.began_ns = time.time_ns()
        self.topics = recorded_topics(
            self.robot, self.groups["filter"], cfg.model_topic, self.get_namespace(), cfg.lockstep
        )
        if cfg.storage == "rosbag2" or (cfg.storage == "auto" and not missing_packages()):
            self.recording: Any = Rosbag2Recording(self.path, self.topics)
        else:
            self.recording = self.begin_bag()
        if self.robot.urdf is not None:
            self.description = self.create_publisher(String, DESCRIPTION, LATCHED)
            self.description.publish(String(data=urdf_text(self.robot.urdf)))
        self.create_wall_timer(0.5, self.guarded(self.look_after))
        self.doing(f"recording into {self.path}")

    def bag_folder(self) -> Path:
        """Where the bag goes.

        Raises:
            ConfigError: neither `bag` nor `output` says it, or it exists.
        """
        if self.config.bag:
            path = Path(self.config.bag).expanduser()
            if path.exists():
                raise ConfigError(f"bag: {path} exists already; expected the name of a new folder")
            return path
        if not self.config.output:
            raise ConfigError("bag: empty, and there is no run folder (output); expected the name of a new folder")
        return next_bag(Path(self.config.output))

    def begin_bag(self) -> Any:
        """Make the bag, with the run's parameters in it, and listen."""
        from mbrl_ros.data.bag_writer import BagWriter  # needs rosbags, which rosbag2 does not

        cfg = self.config
        writer = BagWriter(self.path, self.topics, round(1e6 * cfg.buffer_mb), cfg.flush_period)
        parameters = Path(cfg.output) / PARAMETERS
        if cfg.output and parameters.is_file():
            shutil.copy(parameters, self.path / PARAMETERS)
        for topic in self.topics:
            callback = with_info(self.guarded(functools.partial(self.on_message, writer, topic.name)))
            self.create_subscription(message_class(topic.type), topic.name, callback, qos_of(topic), raw=True)
        return writer

    def on_message(self, writer: Any, topic: str, data: bytes, info: Mapping[str, int]) -> None:
        """Pass a message on, at the time at which it was sent: so the bag has causes before their effects.

        What was sent before the recording began (latched topics) comes at its beginning.
        """
        sent_ns = min(max(info["source_timestamp"], self.began_ns), time.time_ns())
        writer.put(topic, sent_ns, bytes(data))

    def look_after(self) -> None:
        """End where the recording has ended: the graph goes on without it."""
        if self.recording.problem and self.exit_code is None:
            self.trouble = self.recording.problem
            self.get_logger().fatal(self.trouble)
            self.exit_code = 1
        if self.recording.dropped:
            self.get_logger().error(
                f"{self.recording.dropped} messages dropped: the disk is too slow", throttle_duration_sec=10.0
            )

    def status(self) -> tuple[bytes, dict[str, object]]:
        """See GraphNode."""
        recording = self.recording
        level = ERROR if recording.problem else WARN if recording.dropped else OK
        return level, {
            "bag": self.path,
            "messages": recording.written,
            "dropped": recording.dropped,
            "size_mb": f"{1e-6 * recording.size:.1f}",
            "problem": recording.problem,
        }

    def leave(self) -> None:
        """End the bag."""
        if self.recording.problem:
            return
        self.recording.close()
        if self.recording.problem and not isinstance(self.recording, Rosbag2Recording):
            self.get_logger().error(self.recording.problem)
            self.exit_code = 1


def with_info(callback: Callable[[bytes, Mapping[str, int]], None]) -> Any:
    """The callback with a signature from which rclpy sees that it takes a message and its times."""

    def take(data: bytes, info: Mapping[str, int]) -> None:
        callback(data, info)

    return take


def message_class(kind: str) -> type:
    """Class of a message type such as ``sensor_msgs/msg/JointState``."""
    package, _, name = kind.split("/")
    return getattr(import_module(f"{package}.msg"), name)


def qos_of(topic: RecordedTopic) -> QoSProfile:
    """Quality of service with which a topic is listened to."""
    return QoSProfile(
        depth=DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if topic.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE,
    )


def record(node: Recorder) -> None:
    """Body of the process: record until it is asked to end, and a little longer."""
    spin_until(node, lambda: False)
    end = time.monotonic() + LINGER
    while node.executor is not None and time.monotonic() < end:
        node.executor.spin_once(timeout_sec=0.05)


def main() -> int:
    """Entry point of the executable."""
    os.nice(NICENESS)
    return run(Recorder, record)


if __name__ == "__main__":
    sys.exit(main())

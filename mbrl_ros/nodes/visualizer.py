"""The visualizer: the plan, how sure the model is of it and what else was tried, for rviz. No part of control."""

import os
import sys
import time
from collections import deque
from typing import Any

import numpy as np
from nav_msgs.msg import Path
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from mbrl_ros.nodes.pipeline_node import LATCHED, OK, PipelineNode, run
from mbrl_ros.nodes.scene_messages import to_markers, to_path
from mbrl_ros.nodes.scene_source import SceneSource
from mbrl_ros.robots.urdf_text import urdf_text

NICENESS = 10  # pictures wait for whoever controls
SHORTEST_LIFETIME = 1.0  # s that a marker stays at least
PICTURES_KEPT = 200  # over which the time of a picture is reported


class Visualizer(PipelineNode):
    """Computes pictures while somebody subscribes to ``~/markers`` or ``~/plan_path``; otherwise it looks who does."""

    what = "pictures"

    def __init__(self) -> None:
        super().__init__("visualizer")
        self.source = SceneSource(self)
        self.seconds: deque[float] = deque(maxlen=PICTURES_KEPT)
        self.markers = self.create_publisher(MarkerArray, "~/markers", 1)
        self.path = self.create_publisher(Path, "~/plan_path", 1)
        if self.robot.urdf is not None:
            self.description = self.create_publisher(String, "robot_description", LATCHED)
            self.description.publish(String(data=urdf_text(self.robot.urdf)))
        self.timer = self.create_wall_timer(1.0 / self.config.rate, self.guarded(self.on_timer))

    def reconfigure(self, config: Any, groups: dict[str, Any]) -> None:
        """See PipelineNode."""
        super().reconfigure(config, groups)
        self.timer.timer_period_ns = round(1e9 / config.rate)

    def on_timer(self) -> None:
        """Draw where somebody looks."""
        watched = self.markers.get_subscription_count() + self.path.get_subscription_count() > 0
        if watched != self.source.listening:
            (self.source.start if watched else self.source.stop)()
            self.doing("drawing" if watched else "nobody is looking")
        if watched:
            self.draw()

    def draw(self) -> None:
        """Publish a picture."""
        began = time.perf_counter()
        scene = self.source.scene()
        if scene is None:
            return
        self.markers.publish(to_markers(scene, max(SHORTEST_LIFETIME, 2.0 / self.config.rate)))
        self.path.publish(to_path(scene))
        self.seconds.append(time.perf_counter() - began)

    def status(self) -> tuple[bytes, dict[str, object]]:
        """See GraphNode."""
        p50, p99 = np.percentile(self.seconds, [50, 99]) if self.seconds else (np.nan, np.nan)
        values = {"watched": self.source.listening, "picture_ms_p50": f"{1e3 * p50:.2f}"}
        return OK, values | {"picture_ms_p99": f"{1e3 * p99:.2f}"}


def main() -> int:
    """Entry point of the executable."""
    os.nice(NICENESS)
    return run(Visualizer)


if __name__ == "__main__":
    sys.exit(main())

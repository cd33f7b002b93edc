"""The web view: the visualizer's picture, the figures and knobs as a local page. No part of control."""

import os
import sys
from typing import Any

from mbrl_ros.nodes.knob_client import KnobClient
from mbrl_ros.nodes.pipeline_node import OK, PipelineNode, run
from mbrl_ros.nodes.scene_source import SceneSource
from mbrl_ros.nodes.visualizer import NICENESS
from mbrl_ros.visualisation.knobs import Knob
from mbrl_ros.visualisation.web_page import WebPage

WITH_KNOBS = ("mpc_controller", "web_view")


class WebView(PipelineNode):
    """Listens to the graph and draws while a browser is connected."""

    what = "pictures"

    def __init__(self) -> None:
        super().__init__("web_view")
        self.source = SceneSource(self)
        self.page = WebPage(self.source.kinematics, self.config.host, self.config.port, f"mbrl_ros · {self.robot.name}")
        self.knobs = KnobClient(self, WITH_KNOBS, self.on_knobs)
        self.timer = self.create_wall_timer(1.0 / self.config.rate, self.guarded(self.on_timer))
        self.get_logger().info(f"web view: {self.page.url}")
        self.doing(f"nobody is looking at {self.page.url}")

    def reconfigure(self, config: Any, groups: dict[str, Any]) -> None:
        """See PipelineNode."""
        super().reconfigure(config, groups)
        self.timer.timer_period_ns = round(1e9 / config.rate)

    def on_knobs(self, name: str, knobs: list[Knob]) -> None:
        """A node has told its parameters."""
        self.page.add_knobs(name, knobs, self.knobs.turn)

    def on_timer(self) -> None:
        """Draw where somebody looks, and pass on what somebody has turned."""
        watched = self.page.watched
        if watched != self.source.listening:
            (self.source.start if watched else self.source.stop)()
            self.doing(f"{'drawing' if watched else 'nobody is looking'} at {self.page.url}")
        self.knobs.poll(self.page.answer)
        if watched and (scene := self.source.scene()) is not None:
            self.page.draw(scene, self.source.scalars, self.source.trials)

    def status(self) -> tuple[bytes, dict[str, object]]:
        """See GraphNode."""
        return OK, {"watched": self.source.listening, "url": self.page.url}

    def leave(self) -> None:
        """See GraphNode."""
        self.page.close()


def main() -> int:
    """Entry point of the executable."""
    os.nice(NICENESS)
    return run(WebView)


if __name__ == "__main__":
    sys.exit(main())

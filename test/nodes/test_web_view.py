"""The web view's node: it listens while a browser is connected, and not a tick longer."""

import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from mbrl_ros.nodes import web_view


class Page:
    """Stands in for the page."""

    def __init__(self, kinematics, host, port, title):
        self.url, self.watched, self.drawn = f"http://{host}:{port}", False, []

    def draw(self, *what):
        self.drawn.append(what)

    def answer(self, *what):
        pass

    def close(self):
        pass


@pytest.fixture
def node(monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setattr(web_view, "WebPage", Page)
    rclpy.init(args=[], domain_id=own_domain(__file__))
    made = web_view.WebView()
    yield made
    made.leave()
    made.destroy_node()
    rclpy.try_shutdown()


def test_it_listens_only_while_a_browser_is_connected(node):
    node.on_timer()
    assert not node.source.listening and node.status()[1]["watched"] is False
    node.page.watched = True
    node.on_timer()
    assert node.source.listening and node.page.drawn == [], "the robot was not seen yet"
    node.page.watched = False
    node.on_timer()
    assert not node.source.listening and node.source.scene() is None

"""The visualizer node: what it draws beside forward kinematics, and that it does nothing while nobody looks."""

import os
import time

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Path
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String, UInt8MultiArray
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import Marker, MarkerArray

from mbrl_ros.errors import MessageError
from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig, ProbabilisticEnsemble
from mbrl_ros.models.serialization import to_bytes
from mbrl_ros.nodes.conversions import to_joint_state, to_scalars, to_status, to_trajectory
from mbrl_ros.nodes.pipeline_node import LATCHED
from mbrl_ros.nodes.scene_messages import from_candidates, from_trajectory, to_candidates, to_markers
from mbrl_ros.nodes.visualizer import Visualizer
from mbrl_ros.robots.description import load_robot
from mbrl_ros.robots.kinematics import Kinematics
from mbrl_ros.robots.urdf_text import urdf_text
from mbrl_ros.visualisation.candidates import Candidates
from mbrl_ros.visualisation.scene import Scene, candidate_paths, futures

ROBOT = load_robot("cartpole")
KINEMATICS = Kinematics(ROBOT)
MODEL = ProbabilisticEnsemble.example(ROBOT.layout, EnsembleConfig(members=3, width=8), np.random.default_rng(1))
X = np.array([0.3, 2.0, 0.5, -1.0])
ACTIONS = np.linspace(-5.0, 5.0, 6)[:, None]
STATES = MODEL.rollout(X, ACTIONS[None], None, 3)[:, 0].mean(axis=0)
TRIED = Candidates(X, np.stack([ACTIONS, 0.5 * ACTIONS, -ACTIONS]), np.array([1.0, 2.0, 30.0]))


def plan_message(states=STATES, actions=ACTIONS):
    return to_trajectory(7_000_000_000, ROBOT.dt, ROBOT.joints, states, ROBOT.actuators, actions)


class Graph:
    """Stands in for the rest of the graph and looks at the pictures."""

    def __init__(self):
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        rclpy.init(args=["--ros-args", "-p", "rate:=50.0"], domain_id=own_domain(__file__))
        self.viewer = Visualizer()
        self.node = rclpy.create_node("others")
        self.executor = SingleThreadedExecutor()
        for node in (self.viewer, self.node):
            self.executor.add_node(node)
        self.topics = {
            "observation": self.node.create_publisher(JointState, "observation", 10),
            "plan": self.node.create_publisher(JointTrajectory, "plan", 10),
            "candidates": self.node.create_publisher(Float64MultiArray, "mpc_controller/candidates", 10),
            "telemetry": self.node.create_publisher(JointState, "mpc_controller/telemetry", 10),
            "trial": self.node.create_publisher(DiagnosticStatus, "trial", LATCHED),
            "model": self.node.create_publisher(UInt8MultiArray, "dynamics_model", LATCHED),
        }
        self.pictures, self.paths, self.descriptions = [], [], []
        self.node.create_subscription(String, "robot_description", self.descriptions.append, LATCHED)

    def look(self):
        self.pictures, self.paths = [], []
        return (
            self.node.create_subscription(MarkerArray, "visualizer/markers", self.pictures.append, 1),
            self.node.create_subscription(Path, "visualizer/plan_path", self.paths.append, 1),
        )

    def until(self, done, timeout=10.0):
        end = time.monotonic() + timeout
        while not done() and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)
        return done()

    def begin(self):
        self.topics["trial"].publish(to_status("trial", "", b"\x00", "run", {"index": 4, "policy": "mpc"}))
        self.topics["model"].publish(UInt8MultiArray(data=to_bytes(MODEL, 2, 10, "cartpole")))

    def send_tick(self):
        self.topics["observation"].publish(to_joint_state(1, ROBOT.joints, X))
        self.topics["candidates"].publish(to_candidates(TRIED))
        self.topics["telemetry"].publish(to_scalars(1, {"cost": 3.5}))
        self.topics["plan"].publish(plan_message())

    def close(self):
        self.executor.shutdown()
        self.viewer.destroy_node()
        self.node.destroy_node()
        rclpy.shutdown()


@pytest.fixture(scope="module")
def graph():
    result = Graph()
    yield result
    result.close()


@pytest.fixture(scope="module")
def picture(graph):
    subscriptions = graph.look()
    assert graph.until(lambda: graph.topics["plan"].get_subscription_count() == 1)

    graph.begin()

    def complete():
        if graph.pictures and {"plan", "tube", "candidates"} <= {m.ns for m in graph.pictures[-1].markers}:
            return bool(graph.paths and graph.paths[-1].poses)
        graph.send_tick()
        return False

    assert graph.until(complete)
    found = graph.pictures[-1], graph.paths[-1]
    for subscription in subscriptions:
        graph.node.destroy_subscription(subscription)
    return found


def points(marker):
    return np.array([[p.x, p.y, p.z] for p in marker.points])


def named(array, name):
    return [marker for marker in array.markers if marker.ns == name]


def test_the_plan_is_forward_kinematics_of_the_states(picture):
    array, path = picture
    expected = KINEMATICS.point(STATES)
    drawn = points(named(array, "plan")[0])
    np.testing.assert_allclose(drawn[::2], expected[:-1])
    np.testing.assert_allclose(drawn[1::2], expected[1:])
    np.testing.assert_allclose([[p.pose.position.x, p.pose.position.z] for p in path.poses], expected[:, [0, 2]])
    assert {m.header.frame_id for m in array.markers} == {path.header.frame_id} == {"world"}
    assert path.header.stamp.sec == 7


def test_futures_and_tube_are_those_of_the_models_particles(picture):
    array, _ = picture
    paths = futures(MODEL, KINEMATICS, STATES, ACTIONS, 10)
    drawn = points(named(array, "futures")[0]).reshape(10, len(ACTIONS), 2, 3)
    np.testing.assert_allclose(drawn[:, :, 1], paths[:, 1:], atol=1e-6)
    spheres = named(array, "tube")
    assert len(spheres) == len(STATES)
    last = spheres[-1]
    largest = 2 * 2.0 * np.sqrt(np.linalg.eigvalsh(np.cov(paths[:, -1].T, bias=True))[-1])
    assert max(last.scale.x, last.scale.y, last.scale.z) == pytest.approx(largest, rel=1e-4)
    assert last.pose.position.x == pytest.approx(paths[:, -1, 0].mean(), abs=1e-6)


def test_candidates_are_coloured_by_cost(picture):
    marker = named(picture[0], "candidates")[0]
    paths = candidate_paths(MODEL, KINEMATICS, TRIED)
    drawn = points(marker).reshape(3, len(ACTIONS), 2, 3)[::-1]
    np.testing.assert_allclose(drawn[:, :, 1], paths[:, 1:], atol=1e-6)
    colours = np.array([[c.r, c.g, c.b, c.a] for c in marker.colors]).reshape(3, -1, 4)[::-1]
    assert (colours == colours[:, :1]).all() and colours[0, 0, 1] > colours[1, 0, 1] > colours[2, 0, 1], (
        "green is cheap"
    )


def test_goal_limits_and_words(picture):
    array, _ = picture
    goal = named(array, "goal")[0].pose.position
    assert [goal.x, goal.y, goal.z] == pytest.approx([0.0, -0.09, 0.5]), "the tip, upright in the middle"
    ends = points(named(array, "limits")[0])
    assert (ends[:, 0].min(), ends[:, 0].max()) == (-2.5, 2.5)
    assert [cap.pose.position.x for cap in named(array, "limit_ends")] == [-2.5, 2.5]
    assert {m.lifetime.sec + 1e-9 * m.lifetime.nanosec for m in array.markers} == {1.0}, "at a high rate, too"
    words = named(array, "text")[0].text
    assert words.splitlines() == [
        "trial 4: planning",
        "cart_slider: +0.30 m, +0.50 m/s",
        "pole_hinge: +2.00 rad, -1.00 rad/s",
    ]


def test_nothing_is_heard_or_drawn_while_nobody_looks(graph, picture):
    assert graph.until(lambda: not graph.viewer.source.listening)
    drawn = len(graph.viewer.seconds)
    graph.send_tick()
    graph.until(lambda: False, 0.3)
    assert len(graph.viewer.seconds) == drawn
    assert all(graph.topics[name].get_subscription_count() == 0 for name in ("plan", "observation", "candidates"))
    assert graph.viewer.status()[1]["watched"] is False


def test_garbage_is_counted_and_passed_over(graph, picture):
    subscriptions = graph.look()
    assert graph.until(lambda: graph.topics["plan"].get_subscription_count() == 1)
    refused = graph.viewer.refused
    graph.topics["model"].publish(UInt8MultiArray(data=b"no model"))
    graph.topics["candidates"].publish(Float64MultiArray(data=[1.0]))
    graph.topics["plan"].publish(plan_message(np.full((7, 4), np.inf)))
    assert graph.until(lambda: graph.viewer.refused >= refused + 3)
    assert graph.viewer.exit_code is None
    for subscription in subscriptions:
        graph.node.destroy_subscription(subscription)


def test_the_description_is_latched(graph, picture):
    assert graph.until(lambda: bool(graph.descriptions))
    assert graph.descriptions[0].data == urdf_text(ROBOT.urdf) and "<robot" in graph.descriptions[0].data


def test_there_and_back():
    states, actions = from_trajectory(plan_message(), ROBOT.joints, (), ROBOT.actuators)
    np.testing.assert_allclose(states, STATES)
    np.testing.assert_allclose(actions, ACTIONS)
    back = from_candidates(to_candidates(TRIED), 4, 1)
    for name in ("start", "actions", "costs"):
        np.testing.assert_array_equal(getattr(back, name), getattr(TRIED, name))


def test_what_is_no_plan_is_named():
    with pytest.raises(MessageError, match="no 'wheel'"):
        from_trajectory(plan_message(), ("wheel",), (), ())
    broken = plan_message()
    broken.points[1].velocities = [0.0]
    with pytest.raises(MessageError, match="one number for each joint"):
        from_trajectory(broken, ROBOT.joints, (), ROBOT.actuators)


def test_a_scene_without_plan_or_model_has_no_empty_lines():
    array = to_markers(Scene("world", 0, X, np.zeros(3), title="waiting"), 1.0)
    assert [(m.ns, m.type) for m in array.markers] == [("text", Marker.TEXT_VIEW_FACING)]


def test_meshes_of_a_description_are_found_from_anywhere(tmp_path):
    path = tmp_path / "robot.urdf"
    path.write_text('<mesh filename="a.stl"/><mesh scale="1 1 1" filename="package://b/c.stl"/>')
    assert urdf_text(path) == (
        f'<mesh filename="file://{tmp_path}/a.stl"/><mesh scale="1 1 1" filename="package://b/c.stl"/>'
    )


def test_the_goal_is_drawn_where_the_controller_says(graph):
    subscriptions = graph.look()
    send = graph.node.create_publisher(JointState, "mpc_controller/goal", LATCHED)
    send.publish(to_scalars(1, {"cart_slider/position": 1.25}))
    expected = KINEMATICS.point(np.array([1.25, 0.0, 0.0, 0.0]))  # what does not matter is drawn at zero

    def there():
        graph.send_tick()
        goals = [m for picture in graph.pictures[-1:] for m in picture.markers if m.ns == "goal"]
        return any(np.allclose([p.x, p.y, p.z], expected, atol=1e-6) for m in goals for p in places(m))

    assert graph.until(there)
    for subscription in subscriptions:
        graph.node.destroy_subscription(subscription)


def test_a_plan_goes_away_with_its_trial_and_a_goal_of_no_entries_changes_nothing(graph):
    subscriptions = graph.look()
    source = graph.viewer.source
    assert graph.until(lambda: source.listening)
    assert graph.until(lambda: graph.send_tick() or (source.scene() is not None and source.scene().plan is not None))
    goal = source.scene().goal
    source.on_goal(to_scalars(2, {}))
    np.testing.assert_array_equal(source.scene().goal, goal)
    source.on_trial(to_status("trial", "", b"\x00", "done", {"index": 4, "policy": "mpc"}))
    after = source.scene()
    assert after.plan is None and after.tube is None and after.candidates is None and after.title == "trial 4: done"
    for subscription in subscriptions:
        graph.node.destroy_subscription(subscription)


def places(marker):
    """Where a marker's spheres are."""
    return marker.points or [marker.pose.position]

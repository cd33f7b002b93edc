"""The SROS 2 policy: of the form that the schema of sros2 asks for, and exactly what the nodes use, no more."""

import os
import xml.etree.ElementTree as ET
from pathlib import Path
from unittest import mock

import pytest
from ros_domain import own_domain

import mbrl_ros

POLICY = Path(mbrl_ros.__file__).parents[1] / "config" / "sros2" / "policy.xml"
EVERYWHERE = ("/diagnostics", "/parameter_events", "/rosout")  # topics with one name for all namespaces
CHILDREN = {
    "policy": {"enclaves"},
    "enclaves": {"enclave"},
    "enclave": {"profiles"},
    "profiles": {"profile"},
    "profile": {"topics", "services"},
    "topics": {"topic"},
    "services": {"service"},
    "topic": set(),
    "service": set(),
}
ATTRIBUTES = {"policy": {"version"}, "enclave": {"path"}, "profile": {"ns", "node"}}
RULES = {"topics": {"publish", "subscribe"}, "services": {"reply", "request"}}


@pytest.fixture(scope="module")
def policy():
    return ET.parse(POLICY).getroot()


@pytest.mark.parametrize("name", ["policy.xml", "fleet_policy.xml"])
def test_the_file_has_the_form_of_the_schema(name):
    policy = ET.parse(POLICY.with_name(name)).getroot()
    assert policy.tag == "policy" and policy.get("version") == "0.2.0"
    for element in policy.iter():
        children = [child.tag for child in element]
        assert set(children) <= CHILDREN[element.tag], element.tag
        assert bool(children) == bool(CHILDREN[element.tag]), (
            f"{element.tag} must not be empty, nor have more than text"
        )
        if element.tag in RULES:
            assert set(element.attrib) <= RULES[element.tag] and set(element.attrib.values()) == {"ALLOW"}
        else:
            assert set(element.attrib) == ATTRIBUTES.get(element.tag, set())


def test_every_node_has_an_enclave_of_its_own(policy):
    pairs = [(e.get("path"), p.get("node"), p.get("ns")) for e in policy.iter("enclave") for p in e.iter("profile")]
    assert len({path for path, _, _ in pairs}) == len(pairs)
    assert all(path == f"/mbrl_ros/{node}" and ns == "/" for path, node, ns in pairs)


@pytest.mark.parametrize("name", ["policy.xml", "fleet_policy.xml"])
def test_nothing_is_allowed_by_a_pattern(name):
    policy = ET.parse(POLICY.with_name(name)).getroot()
    names = [element.text for tag in ("topic", "service") for element in policy.iter(tag)]
    assert names and not [name for name in names if not name or set(name) & set("*?[]{} ")]


def test_only_the_guard_and_the_link_watchdog_may_command_the_actuators(policy):
    may = {p.get("node") for p in policy.iter("profile") if "effort_controller/commands" in rights(p)["publish"]}
    assert may == {"command_guard", "link_watchdog"}


def rights(profile):
    """Names by what may be done with them."""
    found = {verb: set() for verbs in RULES.values() for verb in verbs}
    for group in [*profile.iter("topics"), *profile.iter("services")]:
        for verb in group.attrib:
            found[verb] |= {element.text for element in group}
    return found


# The nodes, as the graph sees them

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from mbrl_ros.nodes import web_view
from mbrl_ros.nodes.command_guard import CommandGuard
from mbrl_ros.nodes.lifecycle_manager import LifecycleManager
from mbrl_ros.nodes.link_watchdog import LinkWatchdogNode
from mbrl_ros.nodes.model_learner import ModelLearner
from mbrl_ros.nodes.monitor import Monitor
from mbrl_ros.nodes.mpc_controller import MpcController
from mbrl_ros.nodes.pybullet_sim import PyBulletSim
from mbrl_ros.nodes.recorder import Recorder
from mbrl_ros.nodes.state_estimator import StateEstimator
from mbrl_ros.nodes.trial_manager import TrialManager
from mbrl_ros.nodes.visualizer import Visualizer
from mbrl_ros.nodes.web_view import WebView


class NoPage:
    """Stands in for the web page, which needs viser."""

    watched, url = False, ""

    def __init__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass


def looked_at(make):
    """A viewer as it is while somebody is looking."""

    def watched():
        node = make()
        node.source.start()
        return node

    return watched


def with_pages(make):
    """The web view without its page."""

    def paged():
        with mock.patch.object(web_view, "WebPage", NoPage):
            return make()

    return paged


MODES = {  # parameters, and the nodes that have other topics or services with them
    "real time": (
        {},
        (
            PyBulletSim,
            StateEstimator,
            ModelLearner,
            MpcController,
            CommandGuard,
            TrialManager,
            LinkWatchdogNode,
            LifecycleManager,
            lambda: Monitor("", None, rclpy.get_default_context()),
        ),
    ),
    "lockstep": ({"lockstep": "true"}, (PyBulletSim, ModelLearner, CommandGuard, TrialManager)),
    "beside": ({"bag": "{folder}/bag"}, (looked_at(Visualizer), looked_at(with_pages(WebView)), Recorder)),
    "options": (
        {
            "adaptation.memory": "1.0",
            "guard.heartbeat_timeout": "1.0",
            "guard.plan_periods": "3",
            "operator": "true",
        },
        (MpcController, CommandGuard, TrialManager),
    ),
}


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """Node -> verb -> names that it uses in one mode or another, as written in the policy."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    found, folder = {}, tmp_path_factory.mktemp("bags")
    for parameters, nodes in MODES.values():
        arguments = [
            word for name, value in parameters.items() for word in ("-p", f"{name}:={value.format(folder=folder)}")
        ]
        rclpy.init(args=["--ros-args", *arguments], domain_id=own_domain(__file__))
        for make in nodes:
            node = make()
            if hasattr(node, "bring_up"):
                node.bring_up()
            for verb, names in endpoints(node).items():
                found.setdefault(node.get_name(), {}).setdefault(verb, set()).update(names)
            if hasattr(node, "leave"):
                node.leave()
            node.destroy_node()
        rclpy.shutdown()
    return found


def endpoints(node):
    """What the graph knows of a node."""
    asked = {
        "publish": node.get_publisher_names_and_types_by_node,
        "subscribe": node.get_subscriber_names_and_types_by_node,
        "reply": node.get_service_names_and_types_by_node,
        "request": node.get_client_names_and_types_by_node,
    }
    home = node.get_namespace()
    own = f"{node.get_fully_qualified_name()}/"

    def written(name):
        if name in EVERYWHERE:
            return name
        if name.startswith(own):
            return f"~/{name.removeprefix(own)}"
        return name.removeprefix("/") if home == "/" else name.removeprefix(f"{home}/")

    return {verb: {written(name) for name, _ in ask(node.get_name(), home)} for verb, ask in asked.items()}


def test_each_node_may_do_what_it_does_and_nothing_else(policy, used):
    profiles = {p.get("node"): rights(p) for p in policy.iter("profile")}
    assert set(profiles) == {*used, "operator"}
    for node, names in used.items():
        for verb, needed in names.items():
            allowed = profiles[node][verb]
            assert allowed == needed, f"{node} {verb}: missing {needed - allowed}, not needed {allowed - needed}"


def test_the_operator_asks_only_for_what_is_served(policy, used):
    (operator,) = (rights(p) for p in policy.iter("profile") if p.get("node") == "operator")
    served = {name.replace("~", node) for node, names in used.items() for name in names["reply"]}
    assert operator["request"] <= served
    assert not {name for name in operator["request"] if name.endswith("/arm")}, "arming is the trial manager's"


def test_a_fleets_learner_may_do_what_it_does_and_nothing_else(monkeypatch):
    """Its policy is that of a fleet of /a and /b."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    (profile,) = ET.parse(POLICY.with_name("fleet_policy.xml")).getroot().iter("profile")
    assert (profile.get("ns"), profile.get("node")) == ("/fleet", "model_learner")
    arguments = ["--ros-args", "-r", "__ns:=/fleet", "-p", "fleet:=/a,/b"]
    rclpy.init(args=arguments, domain_id=own_domain(__file__))
    node = ModelLearner()
    try:
        node.bring_up()
        assert rights(profile) == endpoints(node)
    finally:
        node.leave()
        node.destroy_node()
        rclpy.shutdown()

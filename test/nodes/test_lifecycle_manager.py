"""The life-cycle manager with managed nodes in one process: order, all or none, answers that name who failed."""

import time

import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import MANAGED
from mbrl_ros.nodes import lifecycle_manager
from mbrl_ros.nodes.lifecycle_manager import ACTIONS, LifecycleManager, managed_nodes
from mbrl_ros.nodes.managed_node import ManagedNode


class Bench:
    """A manager and the nodes it manages, with nothing in them but their life cycle."""

    def __init__(self, *arguments):
        rclpy.init(args=["--ros-args", *arguments] if arguments else [], domain_id=own_domain(__file__))
        self.log = log = []

        class Hollow(ManagedNode):
            def set_up(self):
                log.append(f"set_up {self.get_name()}")

            def begin(self):
                log.append(f"begin {self.get_name()}")

            def rest(self):
                log.append(f"rest {self.get_name()}")

        self.manager = LifecycleManager()
        self.nodes = {name: Hollow(name) for name in MANAGED}
        self.operator = rclpy.create_node("operator")
        self.executor = SingleThreadedExecutor()
        for node in (self.manager, self.operator, *self.nodes.values()):
            self.executor.add_node(node)
        self.clients = {a: self.operator.create_client(Trigger, f"lifecycle_manager/{a}") for a in ACTIONS}

    def until(self, done):
        end = time.monotonic() + 30.0
        while not done():
            assert time.monotonic() < end, self.log
            self.executor.spin_once(timeout_sec=0.02)

    def call(self, action):
        """The answer, and what the nodes have done for it."""
        self.log.clear()
        self.until(self.clients[action].service_is_ready)
        future = self.clients[action].call_async(Trigger.Request())
        self.until(future.done)
        return future.result().success, future.result().message, list(self.log)

    def remove(self, name):
        node = self.nodes.pop(name)
        self.executor.remove_node(node)
        node.destroy_node()
        self.until(lambda: not self.manager.is_there(name))


@pytest.fixture
def bench(monkeypatch, request):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    it = Bench(*getattr(request, "param", ()))
    yield it
    for node in (it.manager, it.operator, *it.nodes.values()):
        node.destroy_node()
    rclpy.shutdown()


def steps(step, names=MANAGED):
    return [f"{step} {name}" for name in names]


def test_up_in_order_and_down_with_the_guard_first(bench):
    down = tuple(reversed(MANAGED))
    assert MANAGED[-1] == "command_guard"
    done, said, log = bench.call("startup")
    assert done and said == ", ".join(f"{name} active" for name in MANAGED)
    assert log == steps("set_up") + steps("begin")
    assert bench.call("startup") == (True, said, []), "there is nothing left to do"
    assert bench.call("pause")[::2] == (True, steps("rest", down))
    assert bench.call("resume")[::2] == (True, steps("begin"))
    assert bench.call("cleanup")[::2] == (True, steps("rest", down))
    assert bench.call("resume")[:2] == (False, "state_estimator is unconfigured: startup first")
    assert bench.call("startup")[0]
    assert bench.call("shutdown") == (True, ", ".join(f"{name} ended" for name in MANAGED), steps("rest", down))
    assert {node.lifecycle for node in bench.nodes.values()} == {"finalized"}
    assert {node.exit_code for node in bench.nodes.values()} == {0}


def test_all_or_none_and_the_answer_names_who_failed(bench):
    for name in ("model_learner", "command_guard"):
        bench.nodes[name].set_parameters([Parameter("robot", value="nobody")])
    done, said, log = bench.call("startup")
    assert not done and not any(step.startswith("begin") for step in log)
    assert [part.split(":")[0] for part in said.split("; ")] == ["model_learner", "command_guard"]
    for name in ("model_learner", "command_guard"):
        bench.nodes[name].set_parameters([Parameter("robot", value="cartpole")])
    bench.nodes["mpc_controller"].begin = lambda: 1 / 0
    done, said, log = bench.call("startup")
    assert not done and said.startswith("mpc_controller: activate failed")
    assert log[-2:] == steps("rest", ("model_learner", "state_estimator"))
    assert not any(node.active for node in bench.nodes.values())


def test_a_node_that_is_not_there_is_named(bench, monkeypatch):
    monkeypatch.setattr(lifecycle_manager, "COME_TIMEOUT", 0.5)
    assert bench.call("startup")[0]
    bench.remove("mpc_controller")
    done, said, log = bench.call("pause")
    assert not done and said == "mpc_controller is not there"
    assert log == steps("rest", ("command_guard", "model_learner", "state_estimator"))
    assert not bench.call("startup")[0]
    assert bench.manager.status()[0] == b"\x02"


def test_a_node_that_goes_while_it_is_asked_does_not_block_the_manager(bench):
    assert bench.call("startup")[0]
    bench.executor.remove_node(bench.nodes["command_guard"])  # it does not answer any more
    future = bench.clients["pause"].call_async(Trigger.Request())
    bench.until(lambda: bench.manager.asked)
    bench.nodes.pop("command_guard").destroy_node()
    bench.until(future.done)
    assert not future.result().success and "command_guard" in future.result().message
    assert not any(node.active for node in bench.nodes.values()), "the others are paused all the same"


def test_a_node_that_hangs_is_given_up_and_named(bench, monkeypatch):
    monkeypatch.setattr(lifecycle_manager, "ANSWER_TIMEOUT", 1.0)
    assert bench.call("startup")[0]
    bench.executor.remove_node(bench.nodes["model_learner"])  # as of a process that is stopped: still in the graph
    done, said, log = bench.call("pause")
    assert not done and said == "model_learner does not answer"
    assert log == steps("rest", ("command_guard", "mpc_controller", "state_estimator"))
    assert not bench.call("shutdown")[0] and bench.nodes["command_guard"].lifecycle == "finalized"


FLEET = ("state_estimator", "/fleet/model_learner", "mpc_controller", "command_guard")
ELSEWHERE = ("-r", "model_learner:__ns:=/fleet", "-p", f"lifecycle_manager:managed:={','.join(FLEET)}")


@pytest.mark.parametrize("bench", [ELSEWHERE], indirect=True)
def test_a_learner_in_another_namespace_is_taken_up_too(bench):
    assert bench.nodes["model_learner"].get_namespace() == "/fleet"
    done, said, log = bench.call("startup")
    assert done and said == ", ".join(f"{name} active" for name in FLEET) and log == steps("set_up") + steps("begin")
    assert bench.call("pause")[2] == steps("rest", tuple(reversed(MANAGED)))


@pytest.mark.parametrize(
    "bench", [(*ELSEWHERE[:3], "lifecycle_manager:managed:=command_guard,mpc_controller")], indirect=True
)
def test_only_those_that_are_named_are_managed_and_in_this_order(bench):
    assert bench.call("startup")[2] == steps("set_up", ("command_guard", "mpc_controller")) + steps(
        "begin", ("command_guard", "mpc_controller")
    )
    assert not bench.nodes["model_learner"].configured


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pybullet_sim", "'pybullet_sim' is not allowed; expected state_estimator, model_learner"),
        ("command_guard, command_guard", "is there twice"),
        (" , ", "expected at least one of"),
    ],
)
def test_what_cannot_be_managed_is_refused(text, said):
    with pytest.raises(ConfigError, match=f"managed: .*{said}"):
        managed_nodes(text)


def test_names_of_other_namespaces_are_taken():
    assert managed_nodes("/a/model_learner, command_guard") == ["/a/model_learner", "command_guard"]

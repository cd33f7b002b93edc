"""The trial manager goes on where its run folder cannot be written."""

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rcl_interfaces.msg import ParameterEvent
from rclpy.parameter import Parameter

from mbrl_ros.control.trial_record import TrialRecord
from mbrl_ros.errors import MbrlError
from mbrl_ros.nodes.conversions import to_joint_state
from mbrl_ros.nodes.trial_manager import ARM_EVERY, TrialManager


@pytest.fixture
def manager(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init(args=["--ros-args", "-p", f"output:={tmp_path}/run"], domain_id=own_domain(__file__))
    node = TrialManager()
    yield node
    node.destroy_node()
    rclpy.shutdown()


def test_a_full_disk_is_reported_and_the_trials_go_on(manager, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    record = TrialRecord(0, "base")
    for k in range(3):
        record.observations[k] = np.array([0.0, 3.1, 0.0, 0.0])
    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", full)
        manager.keep(record)
        manager.write("interrupted")
        assert "No space left on device" in manager.trouble
    assert len(manager.results) == 1, "the score is kept"
    manager.write("interrupted")
    assert manager.trouble == ""
    assert (manager.folder / "summary.json").exists()


class Answer:
    """A service call that is over."""

    def __init__(self, success):
        self.success, self.message = success, "" if success else "not armed: the observation's stamp is old"

    def done(self):
        return True

    def result(self):
        return self


class Guard:
    """Refuses to arm a few times."""

    srv_name = "command_guard/arm"

    def __init__(self, refusals):
        self.refusals, self.asked = refusals, 0

    def call_async(self, request):
        self.asked += 1
        return Answer(self.asked > self.refusals)


@pytest.fixture
def in_simulation(manager, monkeypatch):
    """The manager with services that answer at once."""
    called = []
    executor = rclpy.executors.SingleThreadedExecutor()
    executor.add_node(manager)
    monkeypatch.setattr(manager, "call", lambda name, request: called.append((name, getattr(request, "data", None))))
    monkeypatch.setattr(manager, "announce", lambda phase, index, policy: called.append((phase, index)))
    yield called
    executor.shutdown()


def test_what_prevents_arming_for_a_moment_does_not_end_the_run(manager, in_simulation):
    manager.service_clients["arm"] = Guard(refusals=2)
    manager.start_in_simulation(3, "mpc")
    assert in_simulation == [("reset", None), ("run", 3), ("run", True)]
    assert manager.record is not None


def test_what_prevents_arming_for_long_ends_the_run_with_the_reason(manager, in_simulation):
    manager.service_clients["arm"] = Guard(refusals=1000)
    with pytest.raises(MbrlError, match="command_guard/arm: not armed: the observation's stamp is old"):
        manager.start_in_simulation(3, "mpc")
    assert ("run", True) not in in_simulation, "the robot does not move"
    assert manager.service_clients["arm"].asked <= 2 + ARM_EVERY / manager.robot.dt


def observation(manager, stamp_ns, x):
    return to_joint_state(stamp_ns, manager.robot.joints, np.array(x))


def test_a_stop_ends_the_trial_at_once(manager):
    manager.switch.began(4)
    manager.begin_record(4, "mpc")
    manager.on_observation(observation(manager, 0, [0.0, 3.1, 0.0, 0.0]))
    assert not manager.finished()
    assert manager.services_for_people.stop() == (True, "trial 4 ends now; the next one waits for start or step")
    assert manager.finished() and manager.record.ended_early == "stopped by request"


def test_a_stop_before_the_first_tick_counts_too(manager):
    manager.switch.began(4)
    manager.services_for_people.stop()
    manager.begin_record(4, "mpc")
    assert manager.finished()
    result = manager.record.result(manager.tasks.over([]), manager.robot, 0.0, {})
    assert (result.steps, result.solved, result.ended_early) == (0, False, "stopped by request")


def test_the_score_follows_the_controllers_task_and_nobody_elses(manager):
    refused = manager.set_parameters_atomically([Parameter("task.goal_position", value=1.0)])
    assert not refused.successful and "set it at mpc_controller" in refused.reason
    assert manager.get_parameter("task.goal_position").value == 0.0
    manager.begin_record(0, "mpc")
    manager.on_observation(observation(manager, 1000, [1.0, 0.0, 0.0, 0.0]))

    def event(node, value):
        changed = [
            Parameter("task.goal_position", value=value).to_parameter_msg(),
            Parameter("horizon", value=3).to_parameter_msg(),
        ]
        return ParameterEvent(node=node, changed_parameters=changed)

    manager.on_parameters(event("/other/mpc_controller", 0.5))
    manager.on_parameters(event("/model_learner", 0.5))
    assert manager.task.config.goal_position == 0.0
    manager.on_parameters(event("/mpc_controller", 1.0))
    assert manager.task.config.goal_position == manager.get_parameter("task.goal_position").value == 1.0
    manager.on_observation(observation(manager, 2000, [1.0, 0.0, 0.0, 0.0]))
    costs = manager.tasks.over([1000, 2000]).running_cost(np.array([[1.0, 0, 0, 0]] * 2), np.zeros((2, 1)))
    assert costs[0] > 0.5 and costs[1] == 0.0, "each tick by what was asked for then"


def test_trials_and_their_end_may_change(manager):
    assert manager.set_parameters([Parameter("trials", value=3)])[0].successful
    assert manager.config.trials == 3


@pytest.mark.parametrize(("fresh_from", "policies"), [(0, "base mpc mpc mpc"), (2, "base mpc base mpc")])
def test_after_a_reset_the_base_policy_begins(manager, fresh_from, policies):
    manager.fresh_from = fresh_from
    found = [manager.policy_of(k) for k in range(4)]
    assert found[fresh_from:] == policies.split()[fresh_from:]

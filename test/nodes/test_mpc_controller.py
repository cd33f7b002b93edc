"""The controller node and the models it is sent."""

import os
from dataclasses import replace

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from std_msgs.msg import UInt8MultiArray

from mbrl_ros.errors import MessageError
from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig, ProbabilisticEnsemble
from mbrl_ros.models.serialization import to_bytes
from mbrl_ros.nodes.conversions import to_joint_state
from mbrl_ros.nodes.managed_parameters import Problems
from mbrl_ros.nodes.mpc_controller import OVERTIME, WAY, MpcController
from mbrl_ros.nodes.trial_phase import TrialPhase, to_phase
from mbrl_ros.robots.description import load_robot
from mbrl_ros.robots.values import Delay

ROBOT = load_robot("cartpole")
LAYOUT = ROBOT.layout


@pytest.fixture(scope="module")
def controller():
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    rclpy.init(args=["--ros-args", "-p", "lockstep:=true"], domain_id=own_domain(__file__))
    node = MpcController()
    node.bring_up()
    yield node
    node.destroy_node()
    rclpy.shutdown()


def model_bytes(version, robot="cartpole"):
    model = ProbabilisticEnsemble.example(LAYOUT, EnsembleConfig(members=2, width=4), np.random.default_rng(version))
    return to_bytes(model, version, 10, robot)


def send(node, data):
    node.on_model(UInt8MultiArray(data=data))
    return node.version, node.rejected, node.controller.problem.dynamics


def test_a_good_model_is_taken_and_a_bad_one_refused_while_the_good_one_stays(controller):
    version, rejected, model = send(controller, model_bytes(3))
    assert (version, rejected) == (3, 0)
    damaged = bytearray(model_bytes(4))
    damaged[len(damaged) // 2] ^= 1
    for count, data in enumerate((bytes(damaged), b"", b"not a model", model_bytes(5)[:-7], model_bytes(6, "arm")), 1):
        assert send(controller, data) == (3, count, model)
    assert controller.status()[0] == b"\x02", "an error in the diagnostics"
    assert send(controller, model_bytes(7))[0] == 7


def test_a_trial_that_nobody_ends_is_ended_by_the_controller(controller):
    """The trial manager may be dead; the guard sees good commands and would let them pass for ever."""
    controller.on_trial(to_phase(TrialPhase(4, "run", "base"), "cartpole"))
    allowed = ROBOT.trial_steps + round(OVERTIME / ROBOT.dt)
    for k in range(allowed + 5):
        controller.on_observation(to_joint_state(k * controller.dt_ns, ROBOT.joints, ROBOT.initial_state))
    assert (controller.ticks, controller.acting) == (allowed, False)
    assert "trial 4 is overdue" in controller._doing
    controller.on_trial(to_phase(TrialPhase(5, "run", "base"), "cartpole"))
    controller.on_observation(to_joint_state(0, ROBOT.joints, ROBOT.initial_state))
    assert (controller.ticks, controller.acting) == (1, True), "the next trial is one again"


def overdue_after(controller, stamps):
    """Number of observations with these stamps (ns) after which a trial is overdue; None where it never is."""
    controller.on_trial(to_phase(TrialPhase(4, "run", "base"), "cartpole"))
    for count, stamp_ns in enumerate(stamps):
        controller.on_observation(to_joint_state(stamp_ns, ROBOT.joints, ROBOT.initial_state))
        if not controller.acting:
            return count
    return None


def test_time_passes_where_observations_are_lost_and_not_where_they_come_twice_or_a_clock_is_set(controller):
    dt, allowed = controller.dt_ns, ROBOT.trial_steps + round(OVERTIME / ROBOT.dt)
    assert overdue_after(controller, [2 * k * dt for k in range(allowed)]) == allowed // 2, "every other one was lost"
    assert overdue_after(controller, [k // 10 * dt for k in range(10 * allowed)]) is None, "each came ten times"
    forwards = [k * dt + (k >= 5) * 10 * 10**9 for k in range(allowed + 5)]
    backwards = [k * dt + (k < 5) * 10 * 10**9 for k in range(allowed + 5)]
    for stamps in (forwards, backwards):
        assert overdue_after(controller, stamps) == allowed, "a clock was set: one period passed"


def test_the_controller_is_told_of_periods_without_an_observation_within_a_trial(controller, monkeypatch):
    told = []
    monkeypatch.setattr(controller.controller, "pass_over", told.append)
    overdue_after(controller, [k * controller.dt_ns for k in (5, 6, 8, 9, 13, 13)])
    assert told == [0, 0, 1, 0, 3, 0]
    overdue_after(controller, [90 * controller.dt_ns])
    assert told[6:] == [0], "another trial"


@pytest.mark.parametrize("periods, skipped", [(0.0, 0), (0.5, 0), (1.5, 1), (1000.0, 1)])
def test_in_real_time_an_observation_that_is_old_is_skipped_and_counted(controller, monkeypatch, periods, skipped):
    """A newer one is waiting, and the command for this one would be late."""
    monkeypatch.setattr(controller, "config", replace(controller.config, lockstep=False))
    monkeypatch.setattr("mbrl_ros.nodes.mpc_controller.time.time_ns", lambda: 10**15)
    controller.on_trial(to_phase(TrialPhase(4, "run", "base"), "cartpole"))
    before, stamp_ns = controller.skipped, 10**15 - round(periods * controller.dt_ns)
    controller.on_observation(to_joint_state(stamp_ns, ROBOT.joints, ROBOT.initial_state))
    assert (controller.skipped - before, controller.ticks) == (skipped, 1 - skipped)


class Held:
    """Stands in for the thread that sends commands at their moments: notes for how long each is held, in s."""

    def __init__(self):
        self.waiting = []

    def put(self, seconds, message):
        self.waiting.append(seconds)

    def clear(self):
        self.waiting.clear()


@pytest.fixture
def held(controller, monkeypatch):
    """What waits in a controller in real time whose commands are held, two periods of delay; a trial has begun."""
    waits = Held()
    monkeypatch.setattr(controller, "config", replace(controller.config, lockstep=False))
    monkeypatch.setattr(controller, "due", waits)
    monkeypatch.setattr(controller, "delay_ticks", 2)
    controller.on_trial(to_phase(TrialPhase(4, "run", "base"), "cartpole"))
    return waits.waiting


def observe_at(controller, monkeypatch, stamp_ns, *clock_ns):
    """Give the controller an observation while the wall clock shows these times, one look after the other."""
    looks = [*clock_ns]
    monkeypatch.setattr(
        "mbrl_ros.nodes.mpc_controller.time.time_ns", lambda: looks.pop(0) if len(looks) > 1 else looks[0]
    )
    controller.on_observation(to_joint_state(stamp_ns, ROBOT.joints, ROBOT.initial_state))


def test_a_command_is_held_until_it_is_due(controller, held, monkeypatch):
    observe_at(controller, monkeypatch, 10**15, 10**15 + controller.dt_ns // 2)
    assert held == [pytest.approx(1.5 * ROBOT.dt - WAY, abs=0.3 * ROBOT.dt)]


@pytest.mark.parametrize("set_by", [-3600.0, -10.0, 10.0])
def test_a_clock_that_is_set_while_a_command_is_planned_does_not_change_when_it_is_sent(
    controller, held, monkeypatch, set_by
):
    """Held for 10 s it would have been sent with a stamp that is good again, and all that came after it had waited."""
    observe_at(controller, monkeypatch, 10**15, 10**15, 10**15 + round(1e9 * set_by))
    assert held == [pytest.approx(2 * ROBOT.dt - WAY, abs=0.3 * ROBOT.dt)]


@pytest.mark.parametrize("delay, lockstep, problems", [(None, False, 1), (None, True, 0), (Delay(0.01), False, 0)])
def test_commands_are_held_only_where_the_delay_is_stated(controller, monkeypatch, delay, lockstep, problems):
    """Without it each one would come 2 ms before its stamp: late for the guard, so that nothing is learned from."""
    monkeypatch.setattr(controller, "config", replace(controller.config, lockstep=lockstep, hold_commands=True))
    monkeypatch.setattr(controller, "robot", replace(ROBOT, delay=delay))
    found = Problems()
    controller.examine(found)
    assert len(found) == problems and all("hold_commands: true" in problem for problem in found)


def test_what_was_observed_before_a_clock_was_set_back_is_not_answered(controller, held, monkeypatch):
    before = controller.ticks
    with pytest.raises(MessageError, match=r"observation: its stamp is 10\.0{0,3} s ahead; do the clocks agree\?"):
        observe_at(controller, monkeypatch, 10**15, 10**15 - 10**10)
    assert (held, controller.ticks) == ([], before)
    observe_at(controller, monkeypatch, 10**15, 10**15 - controller.dt_ns // 2)
    assert len(held) == 1, "clocks may differ a little"


def test_nothing_is_sent_any_more_of_a_trial_that_the_controller_has_ended(controller, held, monkeypatch):
    allowed = ROBOT.trial_steps + round(OVERTIME / ROBOT.dt)
    for k in range(allowed + 1):
        observe_at(controller, monkeypatch, k * controller.dt_ns, k * controller.dt_ns)
    assert (controller.acting, held) == (False, [])


def test_after_a_reset_nothing_is_left_of_the_opening_of_the_last_trial(controller):
    """The base policy acts in the first trial after trial_manager/reset; the next one must not begin as before it."""
    guesses, planner = [], controller.controller.planner
    first_state = planner.initial_state
    planner.initial_state = lambda problem, guess: guesses.append(guess) or first_state(problem, guess)
    send(controller, model_bytes(20))
    stamps = iter(range(0, 10**6 * controller.dt_ns, controller.dt_ns))
    for index, policy in enumerate(("mpc", "mpc", "base", "mpc")):
        controller.on_trial(to_phase(TrialPhase(index, "run", policy), "cartpole"))
        for _ in range(controller.config.horizon):
            controller.on_observation(to_joint_state(next(stamps), ROBOT.joints, ROBOT.initial_state))
    assert [guess is None for guess in guesses] == [True, False, True]

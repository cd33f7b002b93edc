"""The controller node and the models it is sent."""

import os
from dataclasses import replace

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from std_msgs.msg import UInt8MultiArray

from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig, ProbabilisticEnsemble
from mbrl_ros.models.serialization import to_bytes
from mbrl_ros.nodes.conversions import to_joint_state
from mbrl_ros.nodes.mpc_controller import OVERTIME, MpcController
from mbrl_ros.nodes.trial_phase import TrialPhase, to_phase
from mbrl_ros.robots.description import load_robot

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

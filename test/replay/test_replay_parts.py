"""The parts of a replay on recordings made by hand: estimator beside the estimator, learner beside the learner, ..."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mbrl_ros.control.change_detection import ChangeConfig
from mbrl_ros.control.controller import Controller
from mbrl_ros.control.learner import Learner
from mbrl_ros.control.problem import make_problem
from mbrl_ros.data.pairing import Pair
from mbrl_ros.data.store_format import Row
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.estimator import Estimator
from mbrl_ros.graph import NODES, configure
from mbrl_ros.models import model_class
from mbrl_ros.models.trainers import TRAINERS
from mbrl_ros.planners.base import Deadline, Plan
from mbrl_ros.replay.differences import compare, spread
from mbrl_ros.replay.estimator import replay_estimator
from mbrl_ros.replay.learner import LearnerSettings, MemoryStore, full_fits, replay_learner
from mbrl_ros.replay.planner import Cut, PlannerReplay, RecordedPlanner, RecordedRounds, replay_planner
from mbrl_ros.replay.recording import Phase, RecordedModel, Recording, Stamped
from mbrl_ros.robots.description import load_robot

ROBOT = load_robot("cartpole")
DT = round(1e9 * ROBOT.dt)
RNG = np.random.default_rng(3)
MODEL = "linear_gaussian"


# differences


def test_differences_are_by_entry_and_name_the_first_stamp():
    recorded = {1: np.array([0.0, 1.0]), 2: np.array([0.0, np.nan]), 3: np.array([0.0, 5.0]), 9: np.zeros(2)}
    replayed = {1: np.array([0.001, 1.0]), 2: np.array([0.0, np.nan]), 3: np.array([0.0, 4.0]), 8: np.zeros(2)}
    found = compare(["a", "b"], recorded, replayed, np.array([1.0, 10.0]), 0.01)
    assert found.compared == 3 and found.largest == [0.001, 1.0] and found.beyond == [3]
    assert found.rms == pytest.approx([np.sqrt(1e-6 / 3), np.sqrt(1 / 3)])
    assert found.first == {"a": 0.0, "b": 1.0}
    assert compare(["a", "b"], recorded, replayed, np.array([1.0, 10.0]), 0.2).beyond == []
    assert compare(["a", "b"], recorded, replayed, np.array([1.0, 10.0]), 0.0).beyond == [1, 3]


def test_nan_equals_nan_only():
    found = compare(["a"], {1: np.array([np.nan])}, {1: np.array([0.0])}, np.ones(1), 1e6)
    assert found.beyond == [1] and found.largest == [np.inf]


def test_spread_is_the_range_of_finite_numbers():
    values = [np.array([1.0, np.nan, 2.0]), np.array([4.0, 5.0, 2.0]), np.array([2.0, 7.0, 2.0])]
    assert spread(values, 3).tolist() == [3.0, 2.0, 1.0]
    assert spread([], 2).tolist() == [1.0, 1.0]


# estimator


def joint_state(stamp_ns, values):
    stamp = SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    header = SimpleNamespace(stamp=stamp, frame_id="")
    position, velocity = np.split(values, 2)
    return SimpleNamespace(
        header=header, name=ROBOT.joints, position=position, velocity=velocity, __msgtype__="sensor_msgs/msg/JointState"
    )


def estimated(measurements, config, stamps):
    """What the estimator itself says."""
    estimator, made = Estimator(config, 2, ROBOT.position_noise, ROBOT.velocity_noise), []
    for stamp_ns, values in measurements:
        position, velocity = np.split(values, 2)
        estimator.measure_joints(1e-9 * stamp_ns, "joint_states", position, velocity, 0.0)
        for wanted in stamps(stamp_ns):
            found = estimator.observe(1e-9 * wanted)
            x = np.concatenate([found.position, found.velocity])
            made.append(Stamped(wanted, wanted, x, found.reason if found.bridged else ""))
    return made


def sensor_recording(config, stamps=lambda stamp: [stamp]):
    """Forty measurements of a moving robot, and the observations made of them, each after its measurement."""
    measured = [((k + 40) * DT, np.sin(0.3 * k + np.arange(4)) + 0.01 * RNG.standard_normal(4)) for k in range(40)]
    recording = Recording(Path("bag"), observations=estimated(measured, config, stamps))
    per = len(recording.observations) // len(measured)
    for k, (stamp_ns, values) in enumerate(measured):
        recording.sensors.append(("joint_states", joint_state(stamp_ns, values)))
        recording.sensors += [("observation", o) for o in recording.observations[k * per : (k + 1) * per]]
    return recording


def test_the_estimator_gives_what_it_gave():
    recording = sensor_recording(FilterConfig())
    result = replay_estimator(recording, ROBOT, FilterConfig(), lockstep=True, tolerance=0.0)
    assert result.agrees and result.differences.compared == 40 and result.differences.largest == [0.0] * 4


def test_an_estimator_with_a_timer_is_asked_at_the_recorded_stamps():
    config = FilterConfig(rate=40.0)
    recording = sensor_recording(config, lambda stamp: [stamp + DT // 5, stamp + DT // 2])
    result = replay_estimator(recording, ROBOT, config, lockstep=False, tolerance=0.0)
    assert result.agrees and result.differences.compared == 80 and max(result.differences.largest) == 0.0
    other = replay_estimator(recording, ROBOT, replace(config, acceleration_density=3.0), lockstep=True, tolerance=0.0)
    assert not other.agrees and other.differences.beyond


def test_another_filter_and_lost_stamps_are_found():
    recording = sensor_recording(FilterConfig())
    other = FilterConfig(acceleration_density=30.0)
    assert not replay_estimator(recording, ROBOT, other, lockstep=True, tolerance=1e-9).agrees
    lost = recording.observations.pop(7)
    recording.sensors.pop(2 * 11)  # the measurement of observation 11
    result = replay_estimator(recording, ROBOT, FilterConfig(), lockstep=True, tolerance=1e-9)
    assert result.extra == [lost.stamp_ns] and result.missing == [(40 + 11) * DT]


def test_in_real_time_the_beginning_does_not_count():
    """The recorded filter knew more than was recorded: five measurements before the recording began."""
    recording = sensor_recording(FilterConfig(acceleration_density=30.0))
    recording.sensors = recording.sensors[10:]
    recording.observations = recording.observations[5:]
    strict = replay_estimator(recording, ROBOT, FilterConfig(acceleration_density=30.0), lockstep=True, tolerance=1e-9)
    assert not strict.agrees
    mild = replay_estimator(recording, ROBOT, FilterConfig(acceleration_density=30.0), lockstep=False, tolerance=1e-9)
    assert mild.agrees and 0 < len(mild.settling) <= 15


# learner


def transitions(count, begin=100):
    """A damped linear system."""
    a = np.eye(4) + 0.02 * RNG.standard_normal((4, 4))
    x, rows = RNG.standard_normal(4), []
    for k in range(count):
        u = RNG.standard_normal(1)
        x_next = a @ x + 0.1 * u + 0.01 * RNG.standard_normal(4)
        rows.append(Pair((begin + k) * DT, x, u, x_next, 0))
        x = 0.98 * x_next
        rows[-1] = replace(rows[-1], x_next=x)
    return rows


def settings(**changes):
    values = {"model": MODEL, "seed": 4} | changes
    config, groups = configure(NODES["model_learner"], values)
    return LearnerSettings(TRAINERS[MODEL], config, groups[MODEL], groups["change"], None, [], [])


def learned(pairs, full):
    """Versions that a learner publishes: after 20 and 30 transitions warm, in the end as `full` says."""
    own = settings()
    learner = Learner(MemoryStore([], ROBOT, []), ROBOT.layout, own.train, own.model, 4, ChangeConfig())
    models = {}
    for k, pair in enumerate(pairs):
        learner.add(pair, 0)
        learner.changed(pair)
        if k + 1 in (20, 30) or k + 1 == len(pairs):
            fitted = learner.fit(learner.data(learner.outdated), warm=not (full and k + 1 == len(pairs)))
            learner.accept(fitted)
            time_ns = pair.stamp_ns + 2 * DT if k + 1 < len(pairs) else 10**12 + 1
            models[learner.version] = RecordedModel(time_ns, fitted.model, learner.version, fitted.data_size)
    return models


def learner_recording(pairs, full=True):
    recording = Recording(Path("bag"), models=learned(pairs, full))
    for pair in pairs:
        recording.observations.append(Stamped(pair.stamp_ns, pair.stamp_ns, pair.x, ""))
        recording.applied.append(Stamped(pair.stamp_ns + 1, pair.stamp_ns, pair.u, "ok"))
    last = pairs[-1].stamp_ns + DT
    recording.observations.append(Stamped(last, last, pairs[-1].x_next, ""))
    recording.phases = [Phase(1, 0, "run", "mpc"), Phase(10**12, 0, "done", "mpc")]
    recording.judged = [{"trial": 0.0, "model_version": 3.0}] if full else []
    return recording


def stored(pairs):
    return {p.stamp_ns: Row(p.stamp_ns, 0, 0, p.x, p.u, p.x_next, p.flag) for p in pairs}


@pytest.mark.parametrize("full", [True, False])
def test_the_learner_pairs_and_fits_what_it_did(full):
    pairs = transitions(40)
    result = replay_learner(learner_recording(pairs, full), ROBOT, settings(), stored(pairs), 0.0)
    assert result.agrees and result.transitions == result.stored == 40
    assert [(m.version, m.data_size, m.replayed_size, m.identical) for m in result.models] == [
        (1, 20, 20, True),
        (2, 30, 30, True),
        (3, 40, 40, True),
    ]


def test_the_fit_after_a_trial_is_told_from_those_within_it():
    recording = learner_recording(transitions(40))
    assert full_fits(recording) == {3}
    recording.models[1] = replace(recording.models[1], time_ns=0)  # of what a resumed run's store held
    assert full_fits(recording) == {1, 3}
    recording.models[3] = replace(recording.models[3], time_ns=10**11)  # within the trial, whatever the figures say
    assert full_fits(recording) == {1}


def test_lost_extra_and_different_transitions_are_told_apart():
    pairs = transitions(40)
    store = stored(pairs)
    recording = learner_recording(pairs)
    del recording.applied[5]
    extra = store.pop(pairs[8].stamp_ns)
    changed = pairs[12].stamp_ns
    store[changed] = replace(store[changed], u=store[changed].u + 1e-12)
    result = replay_learner(recording, ROBOT, settings(), store, 1e-9)
    assert (result.missing, result.extra, result.different) == ([pairs[5].stamp_ns], [extra.stamp_ns], [changed])
    assert [(m.data_size, m.replayed_size) for m in result.models] == [(20, 20), (30, 30), (40, 39)]
    assert not result.agrees and result.models[2] in result.differing


def test_without_a_store_the_models_still_tell():
    recording = learner_recording(transitions(40))
    assert replay_learner(recording, ROBOT, settings(), None, 0.0).agrees
    del recording.models[2]
    result = replay_learner(recording, ROBOT, settings(), None, 0.0)
    assert result.lost_versions == [2] and result.stored is None


def test_what_the_store_held_before_is_learned_from():
    before, after = transitions(15, begin=10), transitions(25)
    history = [Row(p.stamp_ns, 0, 0, p.x, p.u, p.x_next) for p in before]
    own = replace(settings(), history=history)
    learner = Learner(MemoryStore(history, ROBOT, []), ROBOT.layout, own.train, own.model, 4, ChangeConfig())
    for pair in after:
        learner.add(replace(pair, trajectory=1), 0)
    fitted = learner.fit(learner.data(), warm=False)
    recording = learner_recording(after)
    recording.models = {5: RecordedModel(10**12 + 1, fitted.model, 5, fitted.data_size)}
    recording.judged = [{"trial": 0.0, "model_version": 5.0}]
    result = replay_learner(recording, ROBOT, own, stored(after), 0.0)
    assert result.agrees and result.models[0].replayed_size == 40 and result.models[0].identical
    short = replay_learner(recording, ROBOT, settings(), stored(after), 0.0)
    assert short.models[0].replayed_size == 25 and not short.agrees


# planner


def controller_parameters(_=0, **changes):
    cem = {"cem.samples": 12, "cem.elites": 3, "cem.rounds": 3, "cem.refine": 0}  # far from the optimum: luck counts
    values = {"model": MODEL, "propagation": "ts_inf", "horizon": 5, "seed": 4} | cem | changes
    return configure(NODES["mpc_controller"], values)


def plan_recording(limits, delay_ticks, said=True):
    """Two models, ten ticks; `limits` are rounds that were allowed at each, None for all; `said`: figures tell them."""
    config, groups = controller_parameters()
    from mbrl_ros.planners import planner_class

    planner = RecordedPlanner(planner_class("cem")(groups["cem"]))

    class Limited(RecordedPlanner):
        limit = None

        def plan(self, problem, x0, state, rng, deadline):
            return super(RecordedPlanner, self).plan(problem, x0, state, rng, RecordedRounds(self.limit))

    planner = Limited(planner.planner)
    controller = Controller(planner, make_problem(config, groups, ROBOT), delay_ticks, float("inf"))
    examples = [
        model_class(MODEL)
        .example(ROBOT.layout, model_class(MODEL).config_class(), np.random.default_rng(k))
        .with_propagation(config.propagation)
        for k in (1, 2)
    ]
    recording = Recording(Path("bag"), phases=[Phase(5, 3, "run", "mpc"), Phase(10**12, 3, "done", "mpc")])
    recording.models = {k + 1: RecordedModel(0, model, k + 1, 10) for k, model in enumerate(examples)}
    for tick, limit in enumerate(limits):
        version = 1 + (tick >= 4)
        controller.use(examples[version - 1])
        planner.limit = limit
        x, stamp = 0.3 * np.random.default_rng(tick).standard_normal(4), (tick + 1) * DT
        made = controller.tick(x, np.random.default_rng([4, 3, tick]))
        recording.observations.append(Stamped(stamp, stamp, x, ""))
        recording.commands.append(Stamped(stamp + 10, stamp + delay_ticks * DT, made.action, ""))
        figures = {"model_version": float(version), "rounds": float(made.plan.rounds)}
        allowed = {} if limit is None or not said else {"rounds_allowed": float(limit)}
        recording.ticks[stamp] = figures | allowed | {"deadline_missed": float(limit is not None)}
    return recording


NO_LIMITS = [None] * 10


def replayed(recording, configured=controller_parameters, lockstep=True):
    return replay_planner(recording, ROBOT, configured, lockstep=lockstep, tolerance=1e-9)


def test_the_planner_gives_the_commands_it_gave():
    result = replayed(plan_recording(NO_LIMITS, ROBOT.delay_ticks(lockstep=True)))
    assert result.agrees and result.planned == 10 and result.differences.largest == [0.0]


def test_with_a_delay_what_was_sent_and_has_yet_to_act_is_the_same_too():
    delay = ROBOT.delay_ticks(lockstep=False)
    assert delay == 1
    result = replayed(plan_recording(NO_LIMITS, delay), lockstep=False)
    assert result.agrees and result.planned == 10 and result.differences.largest == [0.0]


def test_after_a_reset_the_replay_has_forgotten_how_the_last_trial_began(monkeypatch):
    """A trial, one of the base policy after a reset, a trial; then one that begins as the one before it."""
    begun = []
    first_state = RecordedPlanner.initial_state
    monkeypatch.setattr(
        RecordedPlanner,
        "initial_state",
        lambda self, problem, guess=None: begun.append(guess is None) or first_state(self, problem, guess),
    )
    recording = plan_recording(NO_LIMITS, 0)
    begun.clear()
    planner = PlannerReplay(recording, ROBOT, controller_parameters, lockstep=True)
    for index, policy in ((3, "mpc"), (4, "base"), (5, "mpc"), (6, "mpc")):
        planner.run_trial(Phase(5, index, "run", policy), [] if policy == "base" else recording.commands)
    assert begun == [True, True, False]


@pytest.mark.parametrize("said", [True, False])
def test_ticks_that_were_cut_short_are_apart_and_leave_the_others_exact(said):
    recording = plan_recording([None, 1, None, 2, 3, None, None, 1, None, None], 0, said)
    result = replayed(recording)
    assert result.agrees and result.planned == 6 and result.differences.largest == [0.0]
    assert result.cut == [2 * DT, 4 * DT, 5 * DT, 8 * DT] and result.cut_differences.largest == [0.0]
    for figures in recording.ticks.values():
        figures["deadline_missed"] = 0.0
    assert not replayed(recording).agrees, "without that knowledge they differ"


@pytest.mark.parametrize("change", [{"seed": 5}, {"horizon": 6}, {"cem.smoothing": 0.6}, {"planner": "mppi"}])
def test_another_planner_is_found_and_its_first_tick_named(change):
    recording = plan_recording(NO_LIMITS, 0)
    own = {k: v for k, v in change.items()}
    if "planner" in change:
        configured = lambda _: configure(NODES["mpc_controller"], {"model": MODEL, "horizon": 5, "seed": 4, **own})  # noqa: E731
    else:
        configured = lambda _: controller_parameters(**own)  # noqa: E731
    result = replayed(recording, configured)
    assert not result.agrees and result.differences.beyond[0] <= 2 * DT and result.differences.first["cart_slider"] > 0


def test_parameters_that_were_changed_on_the_way_are_followed():
    """The whole recording is of the one set until the fifth command, and of another from there on."""
    recording = plan_recording(NO_LIMITS, 0)
    when = recording.commands[4].time_ns

    def changing(time_ns):
        return controller_parameters(**({"cem.smoothing": 0.9} if time_ns >= when else {}))

    assert replayed(recording, changing).differences.beyond[0] >= 5 * DT


def test_a_change_while_a_command_was_held_came_after_its_plan():
    """Commands that are sent when they are due were planned before: by the age that their observations had then."""
    recording = plan_recording(NO_LIMITS, 1)
    recording.commands = [replace(c, time_ns=c.stamp_ns + round(0.7 * DT)) for c in recording.commands]
    for figures in recording.ticks.values():
        figures["observation_age"] = 1e-9 * 0.1 * DT

    def changing(time_ns):
        return controller_parameters(**({"cem.smoothing": 0.9} if time_ns >= 5.5 * DT else {}))

    assert replayed(recording, changing, lockstep=False).differences.beyond[0] >= 6 * DT


def test_a_tick_without_its_observation_or_model_is_lost():
    recording = plan_recording(NO_LIMITS, 0)
    del recording.models[2], recording.observations[1]
    result = replayed(recording)
    assert result.lost == [2 * DT, *((k + 1) * DT for k in range(4, 10))] and not result.agrees


def test_a_cut_plan_is_the_one_that_gives_the_recorded_command():
    """Asked twice after its one counted round, as a planner does that refines its plan in the end."""

    class Refining:
        def initial_state(self, problem, guess=None):
            return 0

        def plan(self, problem, x0, state, rng, deadline):
            asked = 0
            while asked < 4 and deadline.allows_round():
                asked += 1
            return Plan(np.full((problem.horizon, 1), float(asked)), 0.0, rounds=1, complete=False), state + asked

    planner, problem = RecordedPlanner(Refining()), SimpleNamespace(horizon=2)
    for asked in (1, 2, 3, 4):
        planner.cut = Cut(1, np.array([float(asked)]))
        plan, state = planner.plan(problem, np.zeros(4), planner.initial_state(problem), None, Deadline())
        assert plan.actions[0] == asked and state.inner == asked
    for allowed in (1, 2, 3):
        planner.cut = Cut(1, np.array([77.0]), allowed)  # what the recording says counts, not the command
        assert planner.plan(problem, np.zeros(4), planner.initial_state(problem), None, Deadline())[1].inner == allowed
    planner.cut = Cut(1, np.array([77.0]))
    assert planner.plan(problem, np.zeros(4), planner.initial_state(problem), None, Deadline())[0].actions[0] == 1.0


def test_what_is_older_than_a_change_of_the_robot_is_not_learned_from():
    before, after = transitions(60, begin=10), transitions(25)
    history = [Row(p.stamp_ns, 0, 0, p.x, p.u, p.x_next) for p in before]
    own = replace(settings(), history=history, changes=[15])  # 45 of the history are of the robot as it is
    learner = Learner(MemoryStore(history, ROBOT, [15]), ROBOT.layout, own.train, own.model, 4, ChangeConfig())
    for pair in after:
        learner.add(replace(pair, trajectory=1), 0)
    fitted = learner.fit(learner.data(learner.outdated), warm=False)
    assert fitted.data_size == 70
    recording = learner_recording(after)
    recording.models = {5: RecordedModel(10**12 + 1, fitted.model, 5, 70)}
    recording.judged = [{"trial": 0.0, "model_version": 5.0}]
    result = replay_learner(recording, ROBOT, own, stored(after), 0.0)
    assert result.agrees and result.models[0].identical
    assert not replay_learner(recording, ROBOT, replace(own, changes=[]), stored(after), 0.0).agrees


def test_a_recording_that_was_killed_ends_where_it_ends():
    """At its very end there may be an observation without its measurement, and a command without its tick."""
    recording = sensor_recording(FilterConfig())
    del recording.sensors[-2]
    result = replay_estimator(recording, ROBOT, FilterConfig(), lockstep=True, tolerance=0.0)
    assert result.agrees and result.ending == [79 * DT] and not result.missing
    planned = plan_recording(NO_LIMITS, 0)
    del planned.ticks[10 * DT]
    result = replayed(planned)
    assert result.agrees and result.ending == [10 * DT] and result.planned == 9
    del planned.observations[8:]
    assert replayed(planned).ending == [9 * DT, 10 * DT]

"""Parameters are checked before any node starts; the file that a run writes can be given back."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import ConfigError, MbrlError, StoreError
from mbrl_ros.graph import GRAPH, MANAGED
from mbrl_ros.models import model_class
from mbrl_ros.models.serialization import to_bytes
from mbrl_ros.params_file import check_namespace, manager_parameters, read_params_file, resolve, write_run_parameters
from mbrl_ros.reporting.summary import RunSummary, TrialResult, write_summary
from mbrl_ros.robots.description import load_robot

EXAMPLES = Path(__file__).resolve().parents[1] / "config" / "robots" / "examples"


def write(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def node(name, **values):
    return {name: {"ros__parameters": values}}


def test_defaults_cover_every_node():
    parameters = resolve({}, None)
    assert set(parameters) == {spec.name for spec in GRAPH}
    assert parameters["mpc_controller"]["cem.samples"] > 0
    assert parameters["command_guard"]["robot"] == "cartpole"


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path):
    content = node("/**", seed=3) | node("mpc_controller", planner="random_shooting", horizon=17, seed=4)
    path = write(tmp_path, content)
    assert resolve({}, path)["mpc_controller"]["seed"] == 4
    parameters = resolve({"seed": 5, "planner": None}, path)
    assert parameters["mpc_controller"]["seed"] == parameters["model_learner"]["seed"] == 5
    assert parameters["mpc_controller"]["planner"] == "random_shooting"
    assert parameters["mpc_controller"]["horizon"] == 17
    assert "random_shooting.samples" in parameters["mpc_controller"]
    assert "cem.samples" not in parameters["mpc_controller"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (node("mpc_controller", horizn=3), ["mpc_controller", "'horizn'", "horizon"]),
        (node("mpc_controller", horizon="long"), ["horizon: 'long'", "int in [1, 1000]"]),
        (node("mpc_controller", horizon=0), ["horizon: 0", "int in [1, 1000]"]),
        (node("mpc_controller", cem={"samples": 1}), ["cem", "samples: 1", "[2, 100000]"]),
        (node("mpc_controller", cme={"samples": 10}), ["'cme.samples'", "cem", "task"]),
        (node("mpc_controller", planner="cme"), ["planner 'cme'", "cem", "random_shooting"]),
        (node("model_learner", model="gpp"), ["model 'gpp'", "probabilistic_ensemble"]),
        (node("/**", robot="cartpool"), ["robot 'cartpool'", "cartpole"]),
        (node("/**", sead=1), ["'sead'", "seed"]),
        (node("mpc_contoller", horizon=3), ["node 'mpc_contoller'", "mpc_controller"]),
        ({"mpc_controller": {"horizon": 3}}, ["mpc_controller", "ros__parameters"]),
        ("a: [", ["not YAML"]),
        ("a: " + 20_000 * "[", ["not YAML: maximum recursion depth"]),
        ("just text", ["expected node names"]),
    ],
)
def test_a_mistake_names_file_key_value_and_what_is_allowed(tmp_path, content, said):
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as error:
        resolve({}, path)
    for words in [str(path), *said]:
        assert words in str(error.value)


def test_mistakes_in_several_nodes_are_reported_together(tmp_path):
    path = write(tmp_path, node("mpc_controller", horizon=0) | node("model_learner", refit_every=0))
    with pytest.raises(ConfigError) as error:
        resolve({}, path)
    assert "horizon" in str(error.value)
    assert "refit_every" in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        resolve({}, tmp_path / "none.yaml")


def test_a_mistake_on_the_command_line_says_so():
    with pytest.raises(ConfigError, match=r"command line: .*seed: -1"):
        resolve({"seed": -1}, None)


def test_a_robots_own_parameters_win_over_defaults_and_lose_against_the_file(tmp_path):
    """In simulation as on the robot."""

    def propagation(given, file=None):
        return resolve(given, file)["mpc_controller"]["propagation"]

    robot = {"robot": "cartpole_blackdrops"}
    assert (propagation({}), propagation(robot)) == ("mean", "ts_inf")
    named, path = "/**:\n  ros__parameters: {robot: cartpole_blackdrops%s}\n", tmp_path / "p.yaml"
    path.write_text(named % "")
    assert propagation({}, path) == "ts_inf"
    path.write_text(named % ", propagation: ts1")
    assert propagation({}, path) == "ts1"
    path.write_text("mpc_controller:\n  ros__parameters: {propagation: moment_matching, horizon: 9}\n")
    assert propagation(robot, path) == "moment_matching"
    path.write_text("mpc_controller:\n  ros__parameters: {horizon: 9}\n")
    assert propagation(robot, path) == "ts_inf"


def test_who_scores_a_simulated_robot_knows_the_goal_of_its_yaml():
    arm = resolve({"robot": str(EXAMPLES / "arm.yaml")}, None)
    assert arm["trial_manager"]["task.goal"] == arm["mpc_controller"]["task.goal"] == [0.8, 1.2, 0.0, 0.0]
    assert arm["mpc_controller"]["policy.std"] == 0.25


@pytest.mark.parametrize("namespace", ["", "robot_1"])
def test_what_a_run_writes_can_be_given_back(tmp_path, namespace):
    parameters = resolve({"seed": 9, "planner": "random_shooting"}, None)
    folder = write_run_parameters(parameters, tmp_path / "run", namespace, "mbrl_ros sim")
    assert resolve({}, folder / "parameters.yaml") == parameters
    assert parameters["trial_manager"]["output"] == str(folder)
    assert set(read_params_file(folder / "parameters.yaml")[1]) == {spec.name for spec in GRAPH}


@pytest.mark.parametrize("namespace", ["", "/", "robot_1", "/a/b/", "_x"])
def test_namespaces_that_ros_takes(namespace):
    check_namespace(namespace)


@pytest.mark.parametrize("namespace", ["a b", "1a", "a//b", "ä", "a/1", "a-b"])
def test_a_namespace_that_ros_would_refuse(namespace):
    with pytest.raises(ConfigError, match=f"namespace: '{namespace}' is not allowed"):
        check_namespace(namespace)


@pytest.mark.parametrize(
    ("stamps", "start"),
    [([], 0.0), ([0], 1000.0), ([1_800_000_000], 1000.0), ([1_000_000_000_000], 2000.0), ([5, 2 * 10**18], 1000.0)],
)
def test_a_resumed_lockstep_run_repeats_no_stamp(tmp_path, stamps, start):
    robot = load_robot("cartpole")
    with TransitionStore(tmp_path / "transitions.sqlite", robot.name, robot.layout) as store:
        for stamp in stamps:
            store.append(stamp, 0, 0, np.zeros(4), np.zeros(1), np.zeros(4))
    parameters = resolve({}, None)
    write_run_parameters(parameters, tmp_path, "", "mbrl_ros sim")
    assert parameters["pybullet_sim"]["start_time"] == start


def test_a_store_that_is_none_is_a_message(tmp_path):
    (tmp_path / "transitions.sqlite").write_text("no database" * 100)
    with pytest.raises(StoreError, match=r"transitions\.sqlite"):
        write_run_parameters(resolve({}, None), tmp_path, "", "mbrl_ros sim")


def start_model(path):
    """A small model of the cart-pole."""
    cls = model_class("probabilistic_ensemble")
    robot = load_robot("cartpole")
    model = cls.example(robot.layout, cls.config_class(members=2, width=4), np.random.default_rng(0))
    path.write_bytes(to_bytes(model, 1, 30, robot.name))
    return path


def test_a_run_that_starts_from_a_model_has_no_base_trials(tmp_path, monkeypatch):
    start_model(tmp_path / "m.safetensors")
    monkeypatch.chdir(tmp_path)
    parameters = resolve({"start_model": "m.safetensors", "model": "probabilistic_ensemble"}, None)
    write_run_parameters(parameters, tmp_path / "run", "", "")
    assert parameters["model_learner"]["start_model"] == str(tmp_path / "m.safetensors"), "whatever folder nodes run in"
    assert parameters["trial_manager"]["base_trials"] == 0
    parameters = resolve({}, None)
    write_run_parameters(parameters, tmp_path / "other", "", "")
    assert parameters["trial_manager"]["base_trials"] == 1


def test_a_resumed_run_starts_from_what_it_started_from_though_that_is_gone(tmp_path):
    """Or from what it has loaded since, which is kept in the same place."""
    folder, path = tmp_path / "run", start_model(tmp_path / "m.safetensors")
    write_run_parameters(resolve({"start_model": str(path), "model": "probabilistic_ensemble"}, None), folder, "", "")
    content = path.read_bytes()
    path.unlink()
    for _ in range(2):
        resumed = resolve({"model": "probabilistic_ensemble"}, None)
        write_run_parameters(resumed, folder, "", "")
        start = folder / "start" / "001" / "model.safetensors"
        assert resumed["model_learner"]["start_model"] == str(start) and start.read_bytes() == content
        assert resumed["trial_manager"]["base_trials"] == 0
        assert read_params_file(folder / "parameters.yaml")[1]["model_learner"]["start_model"] == str(start)
    assert len(list((folder / "start").iterdir())) == 1
    with pytest.raises(
        MbrlError, match=f"start_model: {start} is a probabilistic_ensemble, but the run learns a gauss"
    ):
        write_run_parameters(resolve({"model": "gaussian_process"}, None), folder, "", "")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("robot", "cartpole_blackdrops", "robot 'cartpole', not 'cartpole_blackdrops'"),
        ("model", "gaussian_process", "--model probabilistic_ensemble"),
        ("start_model", "missing.safetensors", "cannot be read"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_anything_is_made(tmp_path, option, value, said):
    path = start_model(tmp_path / "m.safetensors")
    given = {"start_model": str(path), "model": "probabilistic_ensemble"}
    parameters = resolve(given | {option: value}, None)
    with pytest.raises(MbrlError, match=f"start_model: .*{said}"):
        write_run_parameters(parameters, tmp_path / "run", "", "")
    assert not (tmp_path / "run").exists()


def test_the_managers_nodes_are_all_but_a_fleets_learner(tmp_path):
    """A learner that several robots have is not one robot's to pause; the file's word counts."""
    alone = resolve({"autostart": False}, None)
    assert manager_parameters(alone, None)["managed"].split(",") == list(MANAGED)
    elsewhere = resolve({"remote_learner": True}, None)
    assert manager_parameters(elsewhere, None)["managed"].split(",") == list(MANAGED), "it has the robot's namespace"
    fleet = resolve({"remote_learner": True, "model_topic": "/fleet/dynamics_model"}, None)
    assert manager_parameters(fleet, None)["managed"] == "state_estimator,mpc_controller,command_guard"
    path = write(tmp_path, node("lifecycle_manager", managed="command_guard"))
    assert manager_parameters(fleet, path)["managed"] == "command_guard"
    folder = write_run_parameters(
        alone | {"lifecycle_manager": manager_parameters(alone, path)}, tmp_path / "run", "", ""
    )
    assert read_params_file(folder / "parameters.yaml")[1]["lifecycle_manager"]["managed"] == "command_guard"


@pytest.mark.parametrize(
    ("solved", "trials", "more"),
    [((False, True, True), 12, "stop_after_solved above 2"), ((False, True, False), 3, "trials above 3")],
)
def test_a_run_that_has_ended_is_left_as_it_is(tmp_path, solved, trials, more):
    results = [TrialResult(i, "mpc", 60, 3.0, 3.0 * i, 50.0, 2.0, yes) for i, yes in enumerate(solved)]
    summary = RunSummary(
        "cartpole", "cartpole_swingup", "cem", "m", 0, True, {}, "", 0.0, 20.0, "solved", "", tuple(results)
    )
    write_summary(summary, tmp_path)
    with pytest.raises(ConfigError, match=f"output: the run in .* has ended; expected another folder, or .*{more}"):
        write_run_parameters(resolve({"trials": trials}, None), tmp_path, "", "")
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]
    parameters = resolve({"trials": 4}, None)
    parameters["trial_manager"]["stop_after_solved"] = 3
    assert write_run_parameters(parameters, tmp_path, "", "") == tmp_path

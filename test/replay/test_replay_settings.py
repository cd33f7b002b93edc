"""Parameters of a replay: the recorded ones, found beside the bag or in it, with what is to be different."""

import pytest
import yaml

from mbrl_ros.data.bag_reader import BagError
from mbrl_ros.errors import ConfigError
from mbrl_ros.replay.settings import configured, find_bag, read_change, read_changes, recorded_parameters


def write(path, nodes):
    path.write_text(yaml.safe_dump({name: {"ros__parameters": values} for name, values in nodes.items()}))


def test_the_parameters_in_the_bag_count_more_than_those_beside_it(tmp_path):
    bag = tmp_path / "run" / "bag"
    bag.mkdir(parents=True)
    write(tmp_path / "run" / "parameters.yaml", {"/lab/mpc_controller": {"seed": 3}})
    parameters, namespace = recorded_parameters(bag, None)
    assert (parameters["mpc_controller"]["seed"], namespace) == (3, "lab")
    write(bag / "parameters.yaml", {"mpc_controller": {"seed": 4, "cem": {"samples": 9}}})
    parameters, namespace = recorded_parameters(bag, None)
    assert (parameters["mpc_controller"]["seed"], namespace) == (4, "")
    assert parameters["mpc_controller"]["cem.samples"] == 9
    assert parameters["model_learner"]["seed"] == 0, "where nothing is said the default holds"


def test_without_parameters_the_robot_must_be_given(tmp_path):
    with pytest.raises(BagError, match="--robot and --params-file say what it is of"):
        recorded_parameters(tmp_path, None)
    assert recorded_parameters(tmp_path, "cartpole")[0]["state_estimator"]["robot"] == "cartpole"


def test_of_several_bags_of_a_run_the_newest_is_replayed(tmp_path):
    for name in ("bag", "bag_2", "bag_10"):
        (tmp_path / name).mkdir()
    assert find_bag(tmp_path) == tmp_path / "bag_10"
    (tmp_path / "bag" / "metadata.yaml").touch()
    assert find_bag(tmp_path / "bag") == tmp_path / "bag"


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("planner.seed=3", ("mpc_controller", "seed", 3)),
        ("estimator.filter.gate=0.9", ("state_estimator", "filter.gate", 0.9)),
        ("model_learner.calibrate=true", ("model_learner", "calibrate", True)),
        ("planner.mppi.sigma=[0.1, 0.2]", ("mpc_controller", "mppi.sigma", [0.1, 0.2])),
        ("estimator.filter.joint_topics=a=b", ("state_estimator", "filter.joint_topics", "a=b")),
    ],
)
def test_a_change_names_part_or_node_key_and_value(text, change):
    assert read_change(text) == change


@pytest.mark.parametrize("text", ["planner.seed", "seed=3", "planner.=3", "pilot.seed=3", "planner=3", "=", ""])
def test_a_change_of_another_form_is_refused(text):
    with pytest.raises(ConfigError, match=r"expected PART\.KEY=VALUE with PART one of: estimator, learner, planner"):
        read_change(text)


def test_what_is_given_wins_over_the_file_and_what_has_no_effect_in_it_is_passed_over(tmp_path):
    file = tmp_path / "other.yaml"
    write(file, {"/**": {"seed": 1, "lockstep": True}, "mpc_controller": {"horizon": 9, "budget": 0.1}})
    changes = read_changes(["planner.horizon=8"], file)
    assert changes == {"state_estimator": {}, "model_learner": {"seed": 1}, "mpc_controller": {"seed": 1, "horizon": 8}}


def test_with_another_planner_the_settings_of_the_recorded_one_are_left_out():
    recorded = {"planner": "cem", "cem.samples": 9, "seed": 2}
    config, groups = configured("mpc_controller", recorded, {"planner": "mppi", "mppi.samples": 7})
    assert (config.planner, config.seed, groups["mppi"].samples) == ("mppi", 2, 7) and "cem" not in groups
    with pytest.raises(ConfigError, match="unknown key"):
        configured("mpc_controller", recorded, {"mppi.samples": 7})

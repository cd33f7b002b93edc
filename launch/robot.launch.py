"""A real robot learns its task: the simulation's graph without the simulator, as ``mbrl_ros robot`` starts it."""

import importlib.util
import shlex
import sys
from pathlib import Path
from types import ModuleType

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from mbrl_ros.bringup import NO_REMAPPINGS
from mbrl_ros.commands.robot import NOT_ON_A_ROBOT, add_link, is_description, robot_parameters, start_service
from mbrl_ros.graph import ROBOT_GRAPH, nodes_to_start
from mbrl_ros.params_file import OPTIONS, write_run_parameters
from mbrl_ros.reporting.run_folder import PARAMETERS
from mbrl_ros.session import look_at_rate


def beside(name: str) -> ModuleType:
    """Another launch file of this folder as a module."""
    spec = importlib.util.spec_from_file_location(name.replace(".", "_"), Path(__file__).with_name(name))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SIM = beside("sim.launch.py")
LEFT_OUT = (*NOT_ON_A_ROBOT, "use_sim_time")
ARGUMENTS = (
    *(argument for argument in SIM.ARGUMENTS if argument.name not in LEFT_OUT),
    DeclareLaunchArgument(
        "link",
        default_value="false",
        choices=SIM.BOOLEANS,
        description="start the link watchdog between the guard and the actuators, too",
    ),
)


def setup(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Check every parameter, then start the nodes; a mistake ends the launch with a message (and exit code 1)."""
    value = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    given = {name: SIM.typed(name, value[name]) for name in OPTIONS if name in value}
    parameters = robot_parameters(given, SIM.path(value["params_file"]))
    look_at_rate(parameters, value["fit_rate"] == "true")
    command_line = shlex.join(["ros2", *sys.argv[1:]])
    names = [spec.name for spec in nodes_to_start(parameters, ROBOT_GRAPH)]
    if value["params_file"] and is_description(Path(value["params_file"]).expanduser()):
        value["params_file"] = ""  # it has said what it has to say
    remappings = NO_REMAPPINGS
    if value["link"] == "true":
        link, remappings = add_link(parameters, SIM.path(value["params_file"]))
        names.append(link.name)
    names += SIM.managed_by(parameters, SIM.path(value["params_file"]))
    seen = SIM.prepare_beside(parameters, value, SIM.path(value["params_file"]))
    folder = write_run_parameters(parameters, SIM.path(value["output"]), value["namespace"], command_line)
    print(f"each trial begins with: ros2 service call {start_service(value['namespace'])} std_srvs/srv/Trigger")
    run = SIM.Run(folder, names)
    nodes = {name: SIM.node(name, folder / PARAMETERS, value, remappings) for name in names}
    handlers = [handler for name, action in nodes.items() for handler in run.handlers(name, action)]
    views = [action for name in seen for action in SIM.view(name, folder, parameters, value)]
    return [*handlers, *nodes.values(), *views]


def generate_launch_description() -> LaunchDescription:
    """See the module."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=setup)])

"""The command line: ``mbrl_ros sim | report | data | bag | fit | bench``."""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from mbrl_ros.commands import (
    MODULES,
    above_zero,
    add_commands,
    add_paused,
    add_record,
    add_remote_learner,
    add_web,
    new_file,
    positive,
    run,
)
from mbrl_ros.errors import MbrlError

STUDIES = {  # study -> module with its `run_benchmark`
    "swingup": "swingup",
    "closed_loop": "closed_loop",
    "planners": "planners",
    "models": "models",
    "adaptation": "adaptation",
    "faults": "faults.runner",
    "soak": "soak",
    "parameters": "parameters",
}


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="mbrl_ros", description="Model-based reinforcement learning for ROS 2 robots.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_sim(commands.add_parser("sim", help="a simulated robot learns its task over ROS 2"))
    add_report(commands.add_parser("report", help="the report of a run, made again; of several runs, a comparison"))
    add_commands(commands)
    bench = commands.add_parser("bench", help="studies, with every raw value")
    studies = bench.add_subparsers(dest="study", required=True, metavar="STUDY")
    add_swingup(studies.add_parser("swingup", help="experience until solved, seed by seed"))
    closed_loop = studies.add_parser("closed_loop", help="each planner and option of CEM on the known cart-pole")
    closed_loop.add_argument("--seeds", type=positive, default=5, help="seeds 0 .. N-1 (default 5)")
    closed_loop.add_argument("--json", type=new_file, help="write one row a case to this file")
    add_planners(studies.add_parser("planners", help="time of a decision, beside the peers"))
    add_models(studies.add_parser("models", help="time to fit, error and coverage of the models, beside mbrl-lib"))
    add_adaptation(studies.add_parser("adaptation", help="the robot changes in the midst of a trial"))
    add_faults(studies.add_parser("faults", help="the live graph is broken on purpose; what reaches the actuators?"))
    add_parameters(studies.add_parser("parameters", help="random changes of parameters while the robot moves"))
    add_soak(studies.add_parser("soak", help="the live graph for a long while: memory, file handles, deadline misses"))
    return top


def add_sim(sim: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros sim``."""
    sim.add_argument("--robot", help="robot: a name or the path of its YAML (default cartpole)")
    sim.add_argument("--planner", help="planner (default cem)")
    sim.add_argument("--model", help="dynamics model (default gaussian_process)")
    sim.add_argument(
        "--start-model", help="model file, as `mbrl_ros fit` writes it, to start from; no base trials then"
    )
    add_remote_learner(sim)
    sim.add_argument("--seed", type=int, help="seed of every random generator (default 0)")
    sim.add_argument("--trials", type=int, help="largest number of trials (default 12)")
    add_paused(sim)
    sim.add_argument("--lockstep", action="store_true", default=None, help="deterministic, as fast as it goes")
    sim.add_argument(
        "--autostart",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="the managed nodes start by themselves (default), or wait for `mbrl_ros lifecycle startup`",
    )
    sim.add_argument("--gui", action="store_true", default=None, help="show the PyBullet window")
    sim.add_argument(
        "--output",
        type=Path,
        help="run folder; one with a run in it is resumed (default runs/<robot>_<planner>_seed<seed>_<time>)",
    )
    sim.add_argument("--params-file", type=Path, help="ROS parameter file; command-line options win over it")
    sim.add_argument("--namespace", default="", help="ROS namespace of the graph")
    sim.add_argument("--log-level", default="info", choices=("debug", "info", "warn", "error", "fatal"))
    sim.add_argument(
        "--fit-rate", action="store_true", help="reduce a planner that is too slow here until it holds the rate"
    )
    sim.add_argument("--no-report", action="store_true", help="leave out the report at the end")
    add_record(sim)
    add_web(sim)


def add_report(report: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros report``."""
    report.add_argument("folders", type=Path, nargs="+", metavar="RUN", help="run folder; of several, a comparison")
    report.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (default RUN/report.html; of several runs comparison.html in the folder they are in)",
    )


def add_swingup(swingup: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros bench swingup``."""
    swingup.add_argument("--seeds", type=positive, default=10, help="seeds 0 .. N-1 (default 10)")
    swingup.add_argument("--trials", type=positive, default=12, help="largest number of trials a seed (default 12)")
    swingup.add_argument("--planner", default="cem", help="planner (default cem)")
    swingup.add_argument(
        "--model",
        "--models",
        dest="models",
        nargs="+",
        default=["gaussian_process"],
        metavar="MODEL",
        help="dynamics models, one after the other (default gaussian_process)",
    )
    swingup.add_argument("--robot", default="cartpole", help="robot (default cartpole)")
    swingup.add_argument("--params-file", type=Path, help="ROS parameter file")
    swingup.add_argument("--json", type=new_file, help="write one row a seed to this file")


def add_adaptation(adaptation: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros bench adaptation``."""
    adaptation.add_argument("--seeds", type=positive, default=5, help="seeds 0 .. N-1 (default 5)")
    adaptation.add_argument("--planner", default="cem", help="planner (default cem)")
    adaptation.add_argument("--model", default="gaussian_process", help="dynamics model (default gaussian_process)")
    adaptation.add_argument("--factor", type=above_zero, default=2.0, help="what the pole's mass is multiplied with")
    adaptation.add_argument("--memory", type=float, default=1.0, help="memory of the adaptation in s (default 1)")
    adaptation.add_argument("--json", type=new_file, help="write one row a run to this file")


def add_planners(planners: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros bench planners``."""
    planners.add_argument("--with-peers", action="store_true", help="install the peers from PyPI and time them too")
    planners.add_argument("--cases", nargs="+", metavar="CASE", help="some of the cases (default all)")
    planners.add_argument("--repeats", type=positive, default=20, help="most turns of a case (default 20)")
    planners.add_argument("--json", type=new_file, help="write one row a case and planner to this file")
    planners.add_argument("--plot", type=new_file, help="draw the ratios into this file")


def add_models(models: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros bench models``."""
    models.add_argument("--with-peers", action="store_true", help="install mbrl-lib from PyPI and fit its ensemble too")
    models.add_argument("--models", nargs="+", metavar="MODEL", help="some of the models (default all)")
    models.add_argument(
        "--sizes", nargs="+", type=positive, metavar="N", help="transitions (default 60 120 300 1000 5000)"
    )
    models.add_argument("--seeds", type=positive, default=3, help="seeds 0 .. N-1 (default 3)")
    models.add_argument("--json", type=new_file, help="write one row a model, size and seed to this file")


def add_faults(faults: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros bench faults``."""
    faults.add_argument("--only", nargs="+", metavar="NAME", help="faults with one of these in the name (default all)")
    faults.add_argument("--robot", default="cartpole", help="robot: a name or the path of its YAML (default cartpole)")
    faults.add_argument("--repeats", type=positive, default=1, help="how often each fault happens (default 1)")
    faults.add_argument("--seed", type=int, default=0, help="of the moments of the faults (default 0)")
    faults.add_argument("--list", action="store_true", help="say the names of the faults and end")
    faults.add_argument("--json", type=new_file, help="write one row a fault to this file")


def add_parameters(parameters: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros bench parameters``."""
    parameters.add_argument("--count", type=positive, default=1000, help="changes, 25 a second (default 1000)")
    parameters.add_argument("--seed", type=int, default=0, help="of the changes (default 0)")
    parameters.add_argument("--json", type=new_file, help="write all figures to this file")


def add_soak(soak: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros bench soak``."""
    soak.add_argument(
        "--minutes", type=above_zero, default=20.0, help="how long, from the first motion on (default 20)"
    )
    soak.add_argument("--json", type=new_file, help="write all figures to this file")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. A user's mistake is a message, never a traceback."""
    arguments = parser().parse_args(argv)
    try:
        return dispatch(arguments)
    except MbrlError as error:
        print(f"mbrl_ros: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("mbrl_ros"):
            raise
        print(f"mbrl_ros: {error.name} is not installed: pip install -r requirements.txt", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def dispatch(arguments: argparse.Namespace) -> int:
    """Call the command; imports are here so that each command loads only what it needs."""
    if arguments.command == "sim":
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C in the midst of an import may be swallowed
        from mbrl_ros.session import run_simulation

        return run_simulation(arguments, command_line=shlex.join(["mbrl_ros", *sys.argv[1:]]))
    if arguments.command == "report":
        from mbrl_ros.reporting.report import report_on

        print(report_on(arguments.folders, arguments.output))
        return 0
    if arguments.command in MODULES:
        return run(arguments)
    return dispatch_study(arguments)


def dispatch_study(arguments: argparse.Namespace) -> int:
    """Call one of the studies."""
    module = import_module(f"mbrl_ros.benchmarks.{STUDIES[arguments.study]}")
    return int(module.run_benchmark(arguments))


if __name__ == "__main__":
    sys.exit(main())

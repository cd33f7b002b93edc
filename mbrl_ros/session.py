"""One session of ``mbrl_ros sim``: check everything, start the graph, show it, stop it, write the report."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mbrl_ros.bringup import (
    ENCLAVE,
    NO_REMAPPINGS,
    Ending,
    Graph,
    Remappings,
    enclave,
    require_packages,
    watch,
)
from mbrl_ros.errors import ConfigError, MbrlError
from mbrl_ros.graph import GRAPH, MANAGER, WEB_VIEW, NodeSpec, nodes_to_start
from mbrl_ros.params_file import (
    OPTIONS,
    check_namespace,
    check_planning_rate,
    manager_parameters,
    resolve,
    viewer_parameters,
    write_run_parameters,
)
from mbrl_ros.recording import add_recorder, finish_recording
from mbrl_ros.reporting.run_folder import PARAMETERS, SUMMARY
from mbrl_ros.reporting.summary import RunSummary, read_summary, write_summary
from mbrl_ros.robots.description import load_robot
from mbrl_ros.terminal import RunView, plain_header, plain_line, render
from mbrl_ros.transport import dds_environment
from mbrl_ros.visualisation.web_page import check_address, import_viser

DISCOVERY = 0.5  # s in which another graph on this machine usually makes itself known
STARTING = 8.0  # s from the start in which another graph ends the run; later the other one is the one that goes
REFRESH = 0.25  # s between two pictures of the live view


def run_simulation(arguments: argparse.Namespace, command_line: str) -> int:
    """Body of ``mbrl_ros sim``; returns the exit code.

    Raises:
        MbrlError: a mistake in the arguments or the params file; nothing has been started then.
    """
    given = {name: getattr(arguments, name) for name in OPTIONS}
    parameters = resolve(given, arguments.params_file)
    check_namespace(arguments.namespace)
    require_packages()
    require_display(parameters)
    return run_graph(parameters, arguments, command_line)


def run_graph(
    parameters: dict[str, dict[str, Any]],
    arguments: argparse.Namespace,
    command_line: str,
    nodes: Sequence[NodeSpec] = GRAPH,
    remappings: Remappings = NO_REMAPPINGS,
) -> int:
    """Start the nodes with these parameters, show them until they have ended, write the report."""
    if not arguments.web and (arguments.web_port is not None or arguments.web_host is not None):
        raise ConfigError("web_port, web_host: not allowed without --web")
    if arguments.web:
        nodes = (*nodes, add_web_view(parameters, arguments))
    if arguments.record:
        nodes = (*nodes, add_recorder(parameters, arguments.params_file))
    look_at_rate(parameters, arguments.fit_rate)
    if not (autostart := parameters["command_guard"]["autostart"]):
        parameters[MANAGER.name] = manager_parameters(parameters, arguments.params_file)
    folder = write_run_parameters(parameters, arguments.output, arguments.namespace, command_line)
    nodes = nodes_to_start(parameters, nodes)
    view = RunView(title(parameters, folder), deadline_ms(parameters))
    if not autostart:
        nodes = (*nodes, MANAGER)
        print(f"the nodes wait to be started: mbrl_ros lifecycle startup{in_namespace(arguments.namespace)}")
    with interrupts() as interrupted:
        ending = supervise(folder, arguments, view, interrupted, nodes, remappings)
        finish_summary(folder, ending)
        finish_recording(folder)
        if not arguments.no_report:
            make_report(folder)
    return say_ending(folder, ending)


def in_namespace(namespace: str) -> str:
    """Option of the command line for a namespace; empty for none."""
    return f" --namespace {namespace}" if namespace else ""


def add_web_view(parameters: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> NodeSpec:
    """Give the web view its parameters, say where it will be, and return its node.

    Raises:
        MbrlError: viser is not installed, the address cannot be used, or a parameter is not allowed.
    """
    given = {"host": arguments.web_host, "port": arguments.web_port}
    values = viewer_parameters(WEB_VIEW, parameters, arguments.params_file, given)
    import_viser()
    check_address(values["host"], values["port"])
    parameters[WEB_VIEW.name] = values
    print(f"web view: http://{values['host']}:{values['port']}", flush=True)
    return WEB_VIEW


def require_display(parameters: Mapping[str, Mapping[str, Any]]) -> None:
    """The simulator's window needs a display: say so before anything starts."""
    if parameters["pybullet_sim"]["gui"] and not os.environ.get("DISPLAY"):
        raise ConfigError("gui: needs a display, and DISPLAY is not set; leave out --gui")


def look_at_rate(parameters: dict[str, dict[str, Any]], take_offer: bool) -> None:
    """Say so where the planner cannot hold the rate here, and take the nearest setting that does where asked."""
    found = check_planning_rate(parameters)
    controller = parameters["mpc_controller"]
    if found is None or found.holds:
        return
    print(found.message(controller["planner"]))
    if take_offer and found.offer is not None:
        controller[f"{controller['planner']}.{found.setting}"] = found.offer
        print("taken (--fit-rate)")
    else:
        print(
            "going on as set: what is ready at the deadline is used, and misses are counted"
            + ("; --fit-rate takes the offer" if found.offer is not None else "")
        )


def title(parameters: Mapping[str, Mapping[str, Any]], folder: Path) -> str:
    """Heading of the view."""
    main = parameters["trial_manager"]
    mode = "lockstep" if main["lockstep"] else "real time"
    return f"{main['robot']} · {main['planner']} over {main['model']} · seed {main['seed']} · {mode} · {folder.name}"


def deadline_ms(parameters: Mapping[str, Mapping[str, Any]]) -> float:
    """Planning budget in ms."""
    controller = parameters["mpc_controller"]
    return 1e3 * controller["budget"] * load_robot(controller["robot"]).dt


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """SIGINT and SIGTERM as a question instead of an exception, so that nothing is left half done."""
    seen: list[int] = []
    old = {s: signal.signal(s, lambda signum, frame: seen.append(signum)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for signum, handler in old.items():
            signal.signal(signum, handler)


def supervise(
    folder: Path,
    arguments: argparse.Namespace,
    view: RunView,
    interrupted: Callable[[], bool],
    nodes: Sequence[NodeSpec] = GRAPH,
    remappings: Remappings = NO_REMAPPINGS,
) -> Ending:
    """Start the graph and show it until it has ended."""
    os.environ.update(dds_environment(os.environ))
    os.environ.setdefault(ENCLAVE, enclave("monitor"))
    from mbrl_ros.nodes.monitor import MonitorSession

    session = MonitorSession(arguments.namespace, view)
    settled = time.monotonic() + STARTING
    try:
        refuse_company(session, DISCOVERY)
        logs, namespace = folder / "logs", arguments.namespace
        graph = Graph(folder / PARAMETERS, logs, namespace, arguments.log_level, nodes, remappings)
        with shown(view) as show:

            def serve() -> None:
                session.serve(0.05)
                show()
                if time.monotonic() < settled:
                    refuse_company(session, guards=1)

            return watch(graph, serve, interrupted)
    finally:
        session.close()


def refuse_company(session: Any, seconds: float = 0.0, guards: int = 0) -> None:
    """Two graphs on the same topics would drive each other's robot: the one that comes later does not start.

    Args:
        session: the monitor.
        seconds: how long to look for others.
        guards: how many command guards are our own.

    Raises:
        ConfigError: there is another graph.
    """
    end = time.monotonic() + seconds
    while not session.others(guards) and time.monotonic() < end:
        session.serve(0.05)
    if session.others(guards):
        raise ConfigError(
            f"another graph is running in this ROS domain ({os.environ.get('ROS_DOMAIN_ID') or 0}) and namespace; "
            "set ROS_DOMAIN_ID or --namespace to tell them apart"
        )


@contextmanager
def shown(view: RunView) -> Iterator[Callable[[], None]]:
    """A function that shows the view: live on a terminal, else one line for each finished trial."""
    if sys.stdout.isatty():
        from rich.live import Live

        with Live(render(view), auto_refresh=False) as live:
            last = [0.0]

            def refresh() -> None:
                if time.monotonic() - last[0] > REFRESH:
                    last[0] = time.monotonic()
                    live.update(render(view), refresh=True)

            yield refresh
            live.update(render(view), refresh=True)
        return
    print(view.title)
    print(plain_header(), flush=True)
    printed: list[object] = []

    def print_new() -> None:
        for trial in view.trials[len(printed) :]:
            printed.append(trial)
            print(plain_line(trial), flush=True)

    yield print_new
    print_new()


def finish_summary(folder: Path, ending: Ending) -> None:
    """Say in the summary which node died, where one did."""
    if ending.died and (folder / SUMMARY).exists():
        summary: RunSummary = read_summary(folder)
        reason = ending.why.splitlines()[0]
        write_summary(replace(summary, ended=f"node died: {ending.died} ({reason})"), folder)


def make_report(folder: Path) -> None:
    """Write the report; what goes wrong there does not change how the run ended."""
    from mbrl_ros.reporting.report import write_report

    if not (folder / SUMMARY).exists():
        print("no report: nothing was recorded")
        return
    print("writing the report ...", flush=True)
    try:
        print(f"report: {write_report(folder)}")
    except (MbrlError, OSError) as error:
        print(f"no report: {error}", file=sys.stderr)


def say_ending(folder: Path, ending: Ending) -> int:
    """Print how the run ended; returns the exit code."""
    if ending.died:
        print(f"{ending.died} died: {ending.why}", file=sys.stderr)
    elif ending.code == 0:
        summary = read_summary(folder)
        solved = f"solved after {summary.experience_s:.1f} s of experience" if summary.solved else "not solved"
        print(f"{solved}; {len(summary.trials)} trials, {summary.wall_time_s:.0f} s from start to end")
    else:
        print("interrupted; every process has ended")
    return ending.code

"""The live view as a local web page, through viser: robot, plan, tube, candidates, figures and knobs. No ROS."""

import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from mbrl_ros.errors import ConfigError, MissingDependencyError
from mbrl_ros.robots.kinematics import Kinematics
from mbrl_ros.robots.urdf import Shape
from mbrl_ros.visualisation.knobs import Knob
from mbrl_ros.visualisation.scene import (
    FUTURE,
    GOAL,
    LIMIT,
    PLAN,
    TUBE,
    Colour,
    Scene,
    cost_colours,
    quaternions,
)

HISTORY = 400  # figures that are plotted
PLOTTED = (  # figure, what the page calls it, factor
    ("cost", "cost of the plan (no unit)", 1.0),
    ("spread", "spread at the plan's end (std)", 1.0),
    ("planning_time", "planning time (ms)", 1e3),
)
FIGURES = {  # what the page calls the figures of a tick
    "cost": "cost of the plan",
    "spread": "spread",
    "disagreement": "disagreement",
    "deadline_misses": "deadline misses",
    "model_version": "model version",
}
SHOWN = {  # what can be switched off: its name on the page, and what it is
    "plan": ("plan (blue)", "the way that the tip, or another point of interest, is to take, as the model predicts it"),
    "tube": ("tube (light blue)", "where that point may be at each step: wide where the model does not know"),
    "futures": ("futures (light blue)", "the plan in some of the futures that the model holds possible"),
    "candidates": ("candidates (green to pink)", "what the planner has tried: green is cheap, pink is expensive"),
    "limits": ("limits (orange red)", "the way between the ends of each joint"),
}
INK = "#0072b2"
PLOT_HEIGHT, TICK_SPACE = 125, 16  # pixels, of a plot and between two labels: on a phone there was one label alone
TOP, RIGHT = 12, 24  # pixels about a plot: its outermost labels were cut off
THIN, THICK = 1.5, 5.0  # pixels
THINNEST = 0.003  # m, half axis of an ellipsoid
GOAL_SIZE = 0.03  # m, radius
VIEW = 0.6  # distance of the camera in sizes of the robot


class WebPage:
    """One page for all who look at it.

    Attributes:
        url: where it is.
    """

    def __init__(self, kinematics: Kinematics, host: str, port: int, title: str) -> None:
        """Begin to serve.

        Raises:
            MissingDependencyError: viser is not installed.
            ConfigError: the address cannot be used.
        """
        viser = import_viser()
        check_address(host, port)
        self._viser, self._kinematics = viser, kinematics
        self.url = f"http://{host}:{port}"
        self._server = viser.ViserServer(host, port, label=title, verbose=False)
        self._lines: dict[str, Any] = {}
        self._tube: Any = None
        self._history: deque[tuple[float, ...]] = deque(maxlen=HISTORY)
        self._knobs: dict[tuple[str, str], Any] = {}
        self._build_panel(title)
        self._build_robot()

    @property
    def watched(self) -> bool:
        """Whether a browser is connected."""
        return bool(self._server.get_clients())

    def close(self) -> None:
        """End the server."""
        self._server.stop()

    # building

    def _build_panel(self, title: str) -> None:
        gui = self._server.gui
        gui.configure_theme(control_layout="fixed", control_width="large", show_logo=False, show_share_button=False)
        gui.set_panel_label(title)
        self._heading = gui.add_markdown("waiting for the robot")
        self._figures = gui.add_markdown("")
        self._plots = {name: self._add_plot(label) for name, label, _ in PLOTTED}
        self._shown = {name: gui.add_checkbox(label, True, hint=about) for name, (label, about) in SHOWN.items()}
        self._goal_note = gui.add_markdown("The orange ball is the goal.", visible=False)
        self._trials = gui.add_markdown("")

    def _add_plot(self, label: str) -> Any:
        """A plot over time: a dot is a tick; lines between them are pale, since between trials they mean nothing."""
        uplot = self._viser.uplot
        dots = {"show": True, "size": 3, "stroke": INK, "fill": INK}
        return self._server.gui.add_uplot(
            (np.zeros(1), np.zeros(1)),
            (uplot.Series(label="time (s)"), uplot.Series(label=label, stroke=f"{INK}40", width=1, points=dots)),
            scales={"x": uplot.Scale(time=False)},
            axes=(uplot.Axis(), uplot.Axis(space=TICK_SPACE)),
            height=PLOT_HEIGHT,
            padding=(TOP, RIGHT, 0, 0),
        )

    def _build_robot(self) -> None:
        scene = self._server.scene
        scene.set_up_direction("+z")
        x = self._kinematics.robot.initial_state
        self._links = {}
        corners = []
        for link, pose in self._kinematics.poses(x).items():
            self._links[link] = scene.add_frame(f"/robot/{link}", show_axes=False)
            for index, shape in enumerate(self._kinematics.urdf.links[link]):
                self._add_shape(f"/robot/{link}/{index}", shape)
                corners += [(pose @ shape.origin)[:3, 3] + s * np.abs(shape.half_extents) for s in (-1.0, 1.0)]
        self._point_camera(np.array(corners) if corners else np.zeros((1, 3)))
        self._goal = scene.add_icosphere("/goal", GOAL_SIZE, to_rgb(GOAL), opacity=0.6, visible=False)

    def _point_camera(self, corners: np.ndarray) -> None:
        """Look at the middle of the robot from the side, x to the right, z up."""
        low, high = corners.min(axis=0), corners.max(axis=0)
        distance = VIEW * max(float(np.linalg.norm(high - low)), 1.0)
        camera = self._server.initial_camera
        camera.look_at = tuple(0.5 * (low + high))
        camera.position = tuple(0.5 * (low + high) + distance * np.array([0.0, -1.0, 0.25]))

    def _add_shape(self, name: str, shape: Shape) -> None:
        """A visual of the URDF; a mesh that cannot be read leaves the link without it."""
        scene, colour = self._server.scene, to_rgb(shape.colour)
        where = {"wxyz": quaternions(shape.origin[:3, :3]), "position": shape.origin[:3, 3]}
        if shape.kind == "box":
            scene.add_box(name, colour, shape.size, **where)
        elif shape.kind == "cylinder":
            scene.add_cylinder(name, shape.size[0], shape.size[1], colour, **where)
        elif shape.kind == "sphere":
            scene.add_icosphere(name, shape.size[0], colour, **where)
        elif shape.mesh is not None and shape.mesh.is_file():
            import trimesh

            mesh = trimesh.load(shape.mesh, force="mesh")
            mesh.apply_scale(shape.size)
            scene.add_mesh_trimesh(name, mesh, **where)

    def add_knobs(self, node: str, knobs: Sequence[Knob], turned: Callable[[Knob, Any], None]) -> None:
        """Add a folder of knobs; `turned` is called in the server's thread, with what a person has chosen."""
        if not knobs:
            return
        gui = self._server.gui
        with gui.add_folder(node):
            for knob in knobs:
                handle = self._knobs[node, knob.name] = self._add_knob(knob)
                handle.on_update(lambda event, k=knob: turned(k, event.target.value) if event.client else None)
            self._knobs[node, ""] = gui.add_markdown("")

    def _add_knob(self, knob: Knob) -> Any:
        gui = self._server.gui
        if knob.low is not None:
            return gui.add_slider(knob.name, knob.low, knob.high, knob.step, knob.value, hint=knob.about)
        if isinstance(knob.value, bool):
            return gui.add_checkbox(knob.name, knob.value, hint=knob.about)
        if knob.choices:
            return gui.add_dropdown(knob.name, knob.choices, initial_value=knob.value, hint=knob.about)
        return gui.add_text(knob.name, str(knob.value), hint=knob.about)

    def answer(self, node: str, name: str, value: Any, reason: str) -> None:
        """Show what has become of a knob: the value in force, and why another one was refused."""
        self._knobs[node, name].value = value
        self._knobs[node, ""].content = f"**refused:** {reason}" if reason else f"{name} is now {value}"

    # drawing

    def draw(self, scene: Scene, scalars: Mapping[str, float], trials: Sequence[Mapping[str, float]]) -> None:
        """Show a scene and the newest figures."""
        with self._server.atomic():
            self._draw_robot(scene)
            self._draw_lines(scene)
            self._draw_tube(scene)
            self._draw_goal(scene)
            self._write(scene, scalars, trials)

    def _draw_robot(self, scene: Scene) -> None:
        for link, pose in self._kinematics.poses(scene.x).items():
            self._links[link].position = pose[:3, 3]
            self._links[link].wxyz = quaternions(pose[:3, :3])

    def _draw_lines(self, scene: Scene) -> None:
        plan = None if scene.plan is None else scene.plan[None]
        self._line("plan", plan, rows(PLAN, 1), THICK)
        count = 0 if scene.futures is None else len(scene.futures)
        self._line("futures", scene.futures, rows(FUTURE, count), THIN)
        self._line("candidates", scene.candidates, cost_colours(scene.costs), THIN)
        paths = np.array([*scene.limits.values()]) if scene.limits else None
        self._line("limits", paths, rows(LIMIT, len(scene.limits)), THIN)

    def _line(self, name: str, paths: np.ndarray | None, colours: np.ndarray, width: float) -> None:
        """Paths (K, T, 3) in colours (K, 4); a line's alpha is shown as white, which lines are drawn on."""
        handle = self._lines.get(name)
        if paths is None or not self._shown[name].value:
            if handle is not None:
                handle.visible = False
            return
        segments = np.stack([paths[:, :-1], paths[:, 1:]], axis=2)  # (K, T - 1, 2, 3)
        blend = 255.0 * (1.0 - colours[:, 3:] * (1.0 - colours[:, :3]))
        shades = np.broadcast_to(blend[:, None, None], segments.shape).reshape(-1, 2, 3).astype(np.uint8)
        points = segments.reshape(-1, 2, 3).astype(np.float32)
        if handle is None or handle.points.shape != points.shape:
            self._lines[name] = self._server.scene.add_line_segments(
                f"/belief/{name}", points, shades, thickness=width, thickness_units="screen"
            )
            return
        handle.points, handle.colors, handle.visible = points, shades, True

    def _draw_tube(self, scene: Scene) -> None:
        if scene.tube is None or not self._shown["tube"].value:
            if self._tube is not None:
                self._tube.visible = False
            return
        tube = scene.tube
        values = {
            "batched_wxyzs": quaternions(tube.axes).astype(np.float32),
            "batched_positions": tube.centres.astype(np.float32),
            "batched_scales": np.maximum(tube.half_axes, THINNEST).astype(np.float32),
        }
        if self._tube is None or len(self._tube.batched_positions) != len(tube.centres):
            import trimesh

            ball = trimesh.creation.icosphere(subdivisions=2)
            self._tube = self._server.scene.add_batched_meshes_simple(
                "/belief/tube",
                ball.vertices.astype(np.float32),
                ball.faces,
                batched_colors=to_rgb(TUBE),
                opacity=TUBE[3],
                cast_shadow=False,
                receive_shadow=False,
                **values,
            )
            return
        for name, value in values.items():
            setattr(self._tube, name, value)
        self._tube.visible = True

    def _draw_goal(self, scene: Scene) -> None:
        self._goal.visible = self._goal_note.visible = scene.goal is not None
        if scene.goal is not None:
            self._goal.position = scene.goal

    def _write(self, scene: Scene, scalars: Mapping[str, float], trials: Sequence[Mapping[str, float]]) -> None:
        self._heading.content = f"**{scene.title}**\n\n" + "  \n".join(scene.state)
        known = [f"{text} **{scalars[name]:.3g}**" for name, text in FIGURES.items() if name in scalars]
        self._figures.content = " · ".join(known)
        self._plot(scalars)
        self._trials.content = trials_table(trials)

    def _plot(self, scalars: Mapping[str, float]) -> None:
        row = tuple(scale * scalars.get(name, np.nan) for name, _, scale in PLOTTED)
        if not np.isfinite(row).all() or (self._history and self._history[-1][1:] == row):
            return  # nothing new
        self._history.append((time.monotonic(), *row))
        history = np.array(self._history)
        for column, (name, *_) in enumerate(PLOTTED, 1):
            self._plots[name].data = (history[:, 0] - history[-1, 0], history[:, column].copy())


def trials_table(trials: Sequence[Mapping[str, float]]) -> str:
    """Figures of the trials that have ended, as Markdown."""
    if not trials:
        return ""
    lines = ["trial | cost | on target s | solved", "---: | ---: | ---: | ---:"]
    for trial in trials:
        solved = "yes" if trial.get("solved") else "no"
        cost, held = trial.get("cost", np.nan), trial.get("time_on_target", np.nan)
        lines.append(f"{trial.get('trial', np.nan):.0f} | {cost:.1f} | {held:.2f} | {solved}")
    return "\n".join(lines)


def rows(colour: Colour, count: int) -> np.ndarray:
    """The same colour for each of some paths (K, 4)."""
    return np.tile(np.array(colour), (count, 1))


def to_rgb(colour: Sequence[float]) -> tuple[int, int, int]:
    """Red, green and blue in 0 to 255."""
    r, g, b = (round(255 * part) for part in colour[:3])
    return r, g, b


def import_viser() -> ModuleType:
    """Import viser where it is used, so that everything else works without it."""
    try:
        import viser
        import viser.uplot
    except ImportError:
        raise MissingDependencyError(
            "the web view needs viser; install it with: pip install -r requirements-web.txt (or pip install viser)"
        ) from None
    return viser


def check_address(host: str, port: int) -> None:
    """Raise ConfigError where nothing can be served at the address: viser would take another port in silence."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ConfigError(
            f"web view: {host}:{port} cannot be used: {error.strerror}; "
            "expected an address of this machine and a port that is free"
        ) from None

"""Knobs of the graph's parameters: reads them from the nodes, asks the nodes to change them, tells the answers."""

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.task import Future

from mbrl_ros.config import build
from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import NODES, group_classes
from mbrl_ros.nodes.parameters import plain
from mbrl_ros.nodes.pipeline_node import GraphNode
from mbrl_ros.visualisation.knobs import Knob, knobs_of

Answer = Callable[[str, str, Any, str], None]  # node, parameter, value in force, why not another


class KnobClient:
    """The dynamic parameters of some nodes, through their parameter services."""

    def __init__(self, node: GraphNode, names: Sequence[str], found: Callable[[str, list[Knob]], None]) -> None:
        """Look for the nodes.

        Args:
            node: who asks.
            names: whose parameters.
            found: told a node's knobs when it has answered.
        """
        self._node, self._found = node, found
        self._missing = list(names)
        self._turned: SimpleQueue[tuple[Knob, Any]] = SimpleQueue()
        self._list = {name: node.create_client(ListParameters, f"{name}/list_parameters") for name in names}
        self._get = {name: node.create_client(GetParameters, f"{name}/get_parameters") for name in names}
        self._set = {name: node.create_client(SetParameters, f"{name}/set_parameters") for name in names}

    def turn(self, knob: Knob, value: Any) -> None:
        """Ask for a change; may be called in any thread."""
        self._turned.put((knob, value))

    def poll(self, answer: Answer) -> None:
        """Ask the nodes that are there now for what is to be asked; `answer` is told later what became of a change."""
        for name in [n for n in self._missing if self._list[n].service_is_ready() and self._get[n].service_is_ready()]:
            self._missing.remove(name)
            listed = self._list[name].call_async(ListParameters.Request())
            listed.add_done_callback(lambda future, n=name: self._on_listed(n, future))
        newest: dict[tuple[str, str], tuple[Knob, Any]] = {}  # a slider that is dragged sends many values
        try:
            while True:
                knob, value = self._turned.get_nowait()
                newest[knob.node, knob.name] = knob, value
        except Empty:
            pass
        for knob, value in newest.values():
            self._change(knob, value, answer)

    def _on_listed(self, name: str, future: Future) -> None:
        names = list(future.result().result.names)
        got = self._get[name].call_async(GetParameters.Request(names=names))
        got.add_done_callback(lambda answer: self._on_values(name, names, answer))

    def _on_values(self, name: str, names: list[str], future: Future) -> None:
        """Tell the knobs; a node whose parameters are not ours has none."""
        read = [plain(parameter_value_to_python(value)) for value in future.result().values]
        values = dict(zip(names, read, strict=True))
        spec = NODES[name.rsplit("/", 1)[-1]]
        own = {key: value for key, value in values.items() if key in spec.config.__dataclass_fields__}
        try:
            groups = {"": spec.config} | group_classes(spec, build(spec.config, own))
        except ConfigError as error:
            self._node.get_logger().warning(f"no knobs of {name}: {error}")
            return
        self._found(name, knobs_of(name, groups, values))

    def _change(self, knob: Knob, value: Any, answer: Answer) -> None:
        kind = Parameter.Type.DOUBLE if isinstance(knob.value, float) else Parameter.Type.from_parameter_value(value)
        wish = Parameter(knob.name, kind, float(value) if isinstance(knob.value, float) else value)
        message: ParameterMessage = wish.to_parameter_msg()
        answered = self._set[knob.node].call_async(SetParameters.Request(parameters=[message]))
        answered.add_done_callback(lambda future: self._on_answer(knob, value, future, answer))

    def _on_answer(self, knob: Knob, value: Any, future: Future, answer: Answer) -> None:
        """Tell what is in force now: after a refusal that is whatever the node says."""
        result = future.result().results[0]
        if result.successful:
            answer(knob.node, knob.name, value, "")
            return
        got = self._get[knob.node].call_async(GetParameters.Request(names=[knob.name]))
        got.add_done_callback(
            lambda f: answer(knob.node, knob.name, parameter_value_to_python(f.result().values[0]), result.reason)
        )

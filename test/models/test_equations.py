"""Equations by name: bounds, compilation, and that nothing is imported that was not registered here."""

import sys

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError, UnknownNameError
from mbrl_ros.models import equations
from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.models.equations import Equation, Parameter
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.robots import cartpole_equations, pendulum_equations
from mbrl_ros.robots.description import load_robot

LAYOUT = load_robot("cartpole").layout
OTHER = StateLayout(("v", "p", "s"), ("f", "g"), (), {"p": "v"}, 0.05)
EQUATION = Equation(lambda x, u, p: (-p.a * x[0],), (Parameter("a", 0.1, 1.0, 10.0),), ("v",), ("f",))


@pytest.mark.parametrize("module", [cartpole_equations, pendulum_equations])
def test_the_true_parameters_give_the_closed_form(module):
    rng = np.random.default_rng(0)
    x, u = rng.normal(size=(len(module.EQUATION.state), 50)), rng.normal(size=(1, 50))
    given = np.array(module.derivative_with(x, u, module.Parameters(*module.TRUE)))
    np.testing.assert_array_equal(given, np.array(module.derivative(x, u)))
    assert module.EQUATION.names == module.Parameters._fields
    friction = module.TRUE._replace(**{module.EQUATION.names[-1]: 0.3})
    slower = np.array(module.derivative_with(x, u * 0, friction) - np.array(module.derivative(x, u * 0)))
    assert np.all(slower[-1] * x[-1] < 0), "friction of the last joint brakes it"


def test_coordinates_keep_within_the_bounds_and_back():
    equation = cartpole_equations.EQUATION
    z = np.random.default_rng(1).normal(size=(100, 5)) * 3
    values = equation.natural(z)
    for i, p in enumerate(equation.parameters):
        assert np.all((values[:, i] > p.low) & (values[:, i] < p.high))
    np.testing.assert_allclose(equation.unbounded(values), z, atol=1e-5)
    np.testing.assert_allclose(equation.natural(equation.unbounded(equation.start)), equation.start)
    h = 1e-6
    slope = np.array([(equation.natural(z[0] + h * e) - equation.natural(z[0] - h * e)) / (2 * h) for e in np.eye(5)])
    np.testing.assert_allclose(np.diag(slope), equation.slope(z[0]), rtol=1e-6)


def test_masses_are_searched_by_their_logarithm_and_frictions_are_not():
    z = np.array([-1.0, 0.0, 1.0])
    mass = Equation(EQUATION.derivative, (Parameter("m", 0.1, 1.0, 10.0),), ("v",), ("f",))
    drag = Equation(EQUATION.derivative, (Parameter("b", 0.0, 1.0, 10.0),), ("v",), ("f",))
    np.testing.assert_allclose(mass.natural(z[1:2]), 1.0)  # geometric middle
    np.testing.assert_allclose(drag.natural(z[1:2]), 5.0)


def test_compiled_with_parameters_as_controls():
    dynamics = AnalyticDynamics(equations.augmented(cartpole_equations.EQUATION), 4, 6, 0.05)
    known = AnalyticDynamics(cartpole_equations.derivative, 4, 1, 0.05)
    rng = np.random.default_rng(2)
    x, u = rng.normal(size=(7, 4)), rng.normal(size=(7, 1))
    w = np.concatenate([u, np.tile(cartpole_equations.TRUE, (7, 1))], axis=1)
    np.testing.assert_allclose(dynamics.step(x, w), known.step(x, u), rtol=1e-12)


def test_the_equation_of_a_robot_is_found_by_its_joints():
    assert equations.resolved("", LAYOUT) == "cartpole"
    assert equations.resolved("pendulum", LAYOUT) == "pendulum"
    assert equations.resolved("", OTHER) == equations.FALLBACK


def test_a_robot_without_equation_is_damped_masses():
    equation = equations.load(equations.FALLBACK, OTHER)
    assert equation.names == ("drag_0", "gain_0_0", "gain_0_1", "drag_2", "gain_2_0", "gain_2_1")
    p = np.array([0.5, 1.0, -2.0, 0.1, 0.0, 3.0])
    dynamics = AnalyticDynamics(equations.augmented(equation), 3, 8, 1e-3)
    w = np.concatenate([[2.0, 1.0], p])
    got = (dynamics.step(np.array([[3.0, 1.0, 4.0]]), w[None])[0] - [3.0, 1.0, 4.0]) / 1e-3
    np.testing.assert_allclose(got, [-1.5 + 2.0 - 2.0, 3.0, -0.4 + 3.0], rtol=2e-3)


def test_unknown_names_are_not_imported():
    for name in ("antigravity:fly", "this:s"):
        with pytest.raises(UnknownNameError, match="cartpole"):
            equations.load(name, LAYOUT)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "address", ["no_such_module:f", "mbrl_ros.models.equations:nothing", "numpy:pi", "nothing", ""]
)
def test_wrong_addresses_are_named(address):
    with pytest.raises(ConfigError, match="equation"):
        equations.register(address)
    assert address not in equations.EQUATIONS


def test_the_users_own_equation(monkeypatch):
    monkeypatch.setattr(equations, "EQUATIONS", dict(equations.EQUATIONS))
    monkeypatch.setitem(sys.modules, "someones_robot", type("module", (), {"EQUATION": EQUATION}))
    layout = StateLayout(("v",), ("f",), (), {}, 0.05)
    name = equations.register("someones_robot:EQUATION")
    assert equations.load(name, layout) is EQUATION and equations.resolved("", layout) == name
    with pytest.raises(ConfigError, match="cart_slider"):
        equations.load(name, LAYOUT)


@pytest.mark.parametrize("values", [("a b", 0, 1, 2), ("a", 1, 1, 2), ("a", 0, 3, 2), ("a", 0, 1, np.inf)])
def test_impossible_parameters_are_refused(values):
    with pytest.raises(ConfigError, match="parameter"):
        Parameter(*values)

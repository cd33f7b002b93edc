"""The command line: what a user sees of trouble that comes before anything runs."""

import signal

import pytest

from mbrl_ros import cli, session
from mbrl_ros.errors import ConfigError


def fail_with(error):
    def fail(*_args, **_kwargs):
        raise error

    return fail


@pytest.fixture(autouse=True)
def keep_handler():
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def test_a_missing_package_is_a_message(monkeypatch, capsys):
    error = ModuleNotFoundError("No module named 'numba'", name="numba")
    monkeypatch.setattr(session, "run_simulation", fail_with(error))
    assert cli.main(["sim"]) == 2
    assert capsys.readouterr().err == "mbrl_ros: numba is not installed: pip install -r requirements.txt\n"


def test_a_module_of_our_own_that_is_missing_is_not_the_users_mistake(monkeypatch):
    monkeypatch.setattr(session, "run_simulation", fail_with(ModuleNotFoundError("", name="mbrl_ros.nowhere")))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["sim"])


def test_ctrl_c_before_anything_runs_ends_the_process_at_once(monkeypatch):
    """As an exception it can be swallowed by whatever is being imported, and the run would go on."""
    seen = []
    monkeypatch.setattr(
        session, "run_simulation", lambda *_args, **_kw: seen.append(signal.getsignal(signal.SIGINT)) or 0
    )
    assert cli.main(["sim"]) == 0
    assert seen == [signal.SIG_DFL]


@pytest.mark.parametrize(("found", "own", "refused"), [(0, 0, False), (1, 0, True), (1, 1, False), (2, 1, True)])
def test_another_graph_is_refused_before_ours_starts(found, own, refused):
    class Monitor:
        def others(self, guards):
            return found > guards

        def serve(self, seconds):
            pass

    if refused:
        with pytest.raises(ConfigError, match=r"another graph is running in this ROS domain \(\d+\)"):
            session.refuse_company(Monitor(), 0.0, own)
    else:
        session.refuse_company(Monitor(), 0.0, own)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench", "swingup", "--seeds", "0"], "--seeds: '0' is not allowed; expected a whole number, 1 or more"),
        (["bench", "swingup", "--trials", "-1"], "--trials: '-1' is not allowed; expected a whole number, 1 or more"),
        (["bench", "closed_loop", "--seeds", "two"], "--seeds: 'two' is not allowed; expected a whole number"),
        (["bench", "soak", "--minutes", "0"], "--minutes: '0' is not allowed; expected a number above 0"),
        (["bench", "soak", "--minutes", "inf"], "--minutes: 'inf' is not allowed; expected a number above 0"),
        (["bench", "adaptation", "--factor", "x"], "--factor: 'x' is not allowed; expected a number above 0"),
        (["bench", "swingup", "--json", "no/where.json"], "--json: 'no/where.json' is not allowed; expected the name"),
        (["bench", "planners", "--plot", "/"], "--plot: '/' is not allowed; expected the name of a file"),
        (["replay", "x", "--json", "no/where.json"], "--json: 'no/where.json' is not allowed; expected the name"),
    ],
)
def test_a_wrong_argument_is_refused_at_once_with_what_is_allowed(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--web-port=9000", "--web-host=0.0.0.0"])
def test_an_address_without_a_page_is_a_mistake(option, capsys, monkeypatch):
    monkeypatch.setattr(session, "write_run_parameters", fail_with(AssertionError("nothing may be made")))
    assert cli.main(["sim", option]) == 2
    assert capsys.readouterr().err == "mbrl_ros: web_port, web_host: not allowed without --web\n"

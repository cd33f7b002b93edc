"""No code from data: nothing in the package unpickles, evaluates or loads in a way that could run what it reads."""

import ast
from pathlib import Path

import pytest

import mbrl_ros

PACKAGE = Path(mbrl_ros.__file__).parent
FILES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("launch/*.py"), *PACKAGE.parent.glob("*.py")])
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FUNCTIONS = {"eval", "exec", "compile", "__import__"}
SHELLS = {"os.system", "os.popen"}
UNSAFE_YAML = {"load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"}


def problem(node):
    """What is wrong with one node of a syntax tree, or nothing."""
    names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
    names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    if any(name.split(".")[0] in MODULES for name in names):
        return "imports a module that unpickles"
    return problem_of_call(node) if isinstance(node, ast.Call) else None


def problem_of_call(node):
    name = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    unsafe = {
        f"calls {name}": name in FUNCTIONS or name in SHELLS,
        "calls an unsafe loader of YAML": name.startswith("yaml.") and name.removeprefix("yaml.") in UNSAFE_YAML,
        "calls torch.load without weights_only=True": name == "torch.load" and given.get("weights_only") != "True",
        "allows pickle": given.get("allow_pickle", "False") != "False",
        "calls a shell": given.get("shell", "False") != "False",
    }
    return next((what for what, found in unsafe.items() if found), None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_nothing_runs_what_it_reads(path):
    found = [(node.lineno, p) for node in ast.walk(ast.parse(path.read_text())) if (p := problem(node))]
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "yaml.load(text)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_finds_what_it_looks_for(code):
    assert any(problem(node) for node in ast.walk(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["model.eval()", "re.compile(p)", "yaml.safe_load(t)", "torch.load(f, weights_only=True)", "np.load(f)"]
)
def test_and_nothing_else(code):
    assert not any(problem(node) for node in ast.walk(ast.parse(code)))

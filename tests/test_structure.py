"""The rules of docs/design.md about packages and files, read off the source.

``python -m tests.test_structure`` prints the ladder.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dpfunc"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the top down. The files of a package may import one another, without a circle, and whatever
# stands below their package. "" is the face, dpfunc/__init__.
LADDER = [
    "__main__",
    "commands.demo",
    "commands",
    "integrations",
    "monitoring",
    "experiments",
    "audit",
    "audit.membership",
    "audit.canaries",
    "audit.steps",
    "audit.statistics",
    "engine",
    "modules.mending",
    "modules.checking",
    "modules",
    "distributed",
    "optim",
    "step",
    "queries",
    "sampling",
    "noise",
    "noise.kernels",
    "clipping",
    "persample",
    "persample.rules",
    "persample.recurrence",
    "persample.whole_batch",
    "persample.definition",
    "persample.watching",
    "persample.factors",
    "persample.batches",
    "types",
    "random",
    "correlated",
    "accounting",
    "accounting.questions",
    "accounting.engines",
    "accounting.engines.renyi",
    "accounting.engines.finite",
    "accounting.engines.lattice",
    "accounting.engines.contour",
    "accounting.domination",
    "accounting.pairs.allocation",
    "accounting.pairs",
    "accounting.events",
    "strategies",
    "drawing",
    "naming",
    "checks",
    "",
]
MOST_FILES = 12  # in a folder, besides __init__; more need a reason in its __init__: "Many files: "
MOST_LINES = 300
# Outside its own package a module may import only these standard or third-party packages.
ACCOUNTING_MAY_IMPORT = {
    "bisect",
    "collections",
    "contextlib",
    "dataclasses",
    "fractions",
    "itertools",
    "json",
    "functools",
    "importlib",
    "math",
    "numpy",
    "scipy",
    "sys",
    "typing",
}


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}
PACKAGES = {module_name(path) for path in FILES if path.name == "__init__.py"}


def rung(module):
    """The package that a module is of; a file directly in dpfunc/ has a rung of its own."""
    return module if module in PACKAGES or "." not in module else module.rpartition(".")[0]


def imports(tree):
    """What is imported, and by which node: modules by their full names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = full.removeprefix("dpfunc.") in MODULES
                yield (full if is_module else node.module), node


def imports_of_ours(path):
    """The modules of dpfunc that a file imports, without the leading ``dpfunc.``."""
    for imported, _ in imports(ast.parse(path.read_text())):
        if imported == "dpfunc" or imported.startswith("dpfunc."):
            yield imported.removeprefix("dpfunc").removeprefix(".")


def upward_imports(path):
    """What a file imports from above its own rung, or from a rung that is not on the ladder."""
    name = module_name(path)
    place = LADDER.index(rung(name))
    return [
        target
        for target in imports_of_ours(path)
        if rung(target) != rung(name) and LADDER.index(rung(target)) <= place
    ]


def test_every_package_has_a_rung_and_every_rung_a_package():
    assert sorted(LADDER) == sorted({rung(module_name(path)) for path in FILES})


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_down_only(path):
    assert not upward_imports(path)


def test_an_upward_import_is_seen(tmp_path, monkeypatch):
    """The law can fail: the accountant's own face, imported from one of its foundations."""
    planted = PACKAGE / "accounting" / "events" / "planted.py"
    real = Path.read_text
    text = "from dpfunc.accounting.questions.answers import epsilon"
    monkeypatch.setattr(Path, "read_text", lambda p: text if p == planted else real(p))
    assert upward_imports(planted) == ["accounting.questions.answers"]


def test_no_circle_among_the_files_of_a_package():
    edges = {
        module_name(path): [t for t in imports_of_ours(path) if rung(t) == rung(module_name(path))]
        for path in FILES
    }
    done, above = set(), []

    def visit(name):
        assert name not in above, " imports ".join([*above[above.index(name) :], name])
        if name not in done:
            above.append(name)
            for target in edges[name]:
                visit(target)
            done.add(above.pop())

    for name in edges:
        visit(name)


@pytest.mark.parametrize("name", sorted(PACKAGES - {""}))
def test_a_package_says_what_goes_in_what_comes_out_and_what_to_read_first(name):
    text = ast.get_docstring(ast.parse(MODULES[name].read_text()))
    if name != "accounting":  # a face for users: its docstring is theirs
        first, *_ = [line for line in text.splitlines() if line.startswith("Read first: `")]
        assert "\nIn: " in text
        assert "\nOut: " in text
        assert (MODULES[name].parent / first.split("`")[1]).exists(), first


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=str)
def test_folders_are_small_and_no_file_has_the_name_of_its_folder(folder):
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    reason = "Many files: " in (folder / "__init__.py").read_text()
    assert len(files) <= MOST_FILES or reason
    assert folder.name not in [path.stem for path in files]


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES


def test_the_top_of_the_package_is_small():
    files = [path for path in PACKAGE.iterdir() if path.is_file()]
    assert len(files) <= 8, files


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_stand_at_the_top_but_for_optional_packages(path):
    tree = ast.parse(path.read_text())
    inside = [n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)]
    for imported, node in imports(tree):
        if node in inside:
            optional = ("dp_accounting", "matplotlib", "mlxtend", "rich", "tqdm")
            slow = ("mpmath",)  # to load, and seldom asked
            assert imported.split(".")[0] in optional + slow or imported.endswith(".tensorboard")
    assert "TYPE_CHECKING" not in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_private_name_crosses_files(path):
    for imported, node in imports(ast.parse(path.read_text())):
        if imported.startswith("dpfunc"):
            names = [alias.name for alias in node.names]
            assert not any(name.startswith("_") for name in names + imported.split("."))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_every_file_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


WITHOUT_TORCH = ("accounting", "strategies", "correlated")


@pytest.mark.parametrize(
    "path",
    sorted(file for name in WITHOUT_TORCH for file in (PACKAGE / name).rglob("*.py")),
    ids=module_name,
)
def test_the_accountant_needs_numpy_and_scipy_alone(path):
    for imported, _ in imports(ast.parse(path.read_text())):
        top = imported.split(".")[0]
        if top == "dp_accounting":  # optional, inside a function: the test above allows no other
            continue
        assert top in ACCOUNTING_MAY_IMPORT or imported.startswith(
            ("dpfunc.checks", "dpfunc.naming", *(f"dpfunc.{name}" for name in WITHOUT_TORCH))
        )


FORBIDDEN = (
    "torch.Generator",
    "manual_seed",
    "numpy.random",
    "np.random",
    "default_rng",
    *("torch.rand(", "torch.randn", "torch.randint", "torch.randperm", "torch.rand_like"),
    "torch.normal",
    "torch.bernoulli",
    "multinomial(",
    "normal_(",
    "uniform_(",
    "bernoulli_(",
    "random_(",
    "import random",
    "from random",
    "urandom",
)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_random_is_the_only_source_of_randomness(path):
    text = path.read_text()
    assert not [word for word in FORBIDDEN if word in text]
    if module_name(path) != "random.keys":
        assert "import secrets" not in text


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_assert_and_no_silenced_exception(path):
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Assert), node.lineno
        if isinstance(node, ast.ExceptHandler):
            assert not all(isinstance(child, ast.Pass) for child in node.body), node.lineno


def describe(name):
    """One line of the ladder: the package, how many files it has, its first line."""
    is_package = name in PACKAGES and name
    files = [n for n in MODULES if rung(n) == name and n != name] if is_package else []
    count = f"{len(files):2} files" if files else "        "
    first = ast.get_docstring(ast.parse(MODULES[name].read_text())).splitlines()[0]
    return f"{name or 'dpfunc':30} {count}  {first}"


if __name__ == "__main__":
    print(*map(describe, LADDER), sep="\n")

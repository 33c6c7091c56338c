"""The rules of docs/design.md about files, read off the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dpfunc"
FILES = sorted(PACKAGE.rglob("*.py"))

# Imports go down only: a file may import from lower rungs, or what its own rung lists before it.
LADDER = [
    ["checks"],
    [
        "accounting.algebra",
        "accounting.mechanisms",
        "accounting.schemes",
        "accounting.serialise",
        "accounting.dp_event",
        "accounting.leaves",
        "accounting.events",
        "accounting.pair",
        "accounting.mixture",
        "accounting.finite_loss",
        "accounting.bounded_range",
        "accounting.laplace_mixture",
        "accounting.integer_mixture",
        "accounting.lognormal",
        "accounting.allocation_series",
        "accounting.allocation",
        "accounting.combine",
        "accounting.release",
        "accounting.sampled_release",
        "accounting.domination",
        "accounting.gaussian",
        "accounting.single",
        "accounting.moments",
        "accounting.decay",
        "accounting.saddle",
        "accounting.line",
        "accounting.inversion",
        "accounting.contour",
        "accounting.atoms",
        "accounting.lattice_grid",
        "accounting.lattice_kernel",
        "accounting.lattice_law",
        "accounting.lattice_sums",
        "accounting.lattice",
        "accounting.one_grid",
        "accounting.largest_loss",
        "accounting.binomial",
        "accounting.bounds",
        "accounting.engines",
        "accounting.rdp",
        "accounting.renyi",
        "accounting.questions",
        "accounting.tradeoff",
        "accounting.targets",
        "accounting.step_counts",
        "accounting.curve",
        "accounting.budget",
        "accounting.frontier",
        "accounting.calibrate",
        "accounting.concentrated",
        "accounting.filters",
        "accounting",
    ],
    [
        "chacha_triton",
        "chacha",
        "random",
        "exact",
        "continuous",
        "discrete",
        "rounded",
        "subsets",
        "lattice",
        "fused",
    ],
    ["types"],
    [
        "persample.nested",
        "persample.shapes",
        "persample.batch",
        "persample.cost",
        "persample.precision",
        "persample.factors",
        "persample.outer",
        "persample.scatter",
        "persample.windows",
        "persample.convolution",
        "persample.combine",
        "persample.views",
        "persample.whole_batch",
        "persample.tap",
        "persample.capture",
        "persample.memory",
        "persample.chance",
        "persample.loss",
        "persample.mapped",
        "persample.places",
        "persample.order",
        "persample.unused",
        "persample.rows",
        "persample.recompute",
        "persample.recurrence",
        "persample.recurrence.cells",
        "persample.recurrence.scan",
        "persample.recurrence.lstm",
        "persample.recurrence.gru",
        "persample.recurrence.elman",
        "persample.rules.linear",
        "persample.rules.einsum",
        "persample.rules.convolution",
        "persample.rules.lookup",
        "persample.rules.attention",
        "persample.rules.group_norm",
        "persample.rules.norm",
        "persample.rules.properties",
        "persample.rules.branches",
        "persample.rules.masks",
        "persample.rules.watched_pass",
        "persample.rules.packed",
        "persample.rules.recurrent",
        "persample.rules",
        "persample.reduce",
        "persample.dense",
        "persample.verify",
        "persample.factored",
        "persample.graph",
        "persample.explain",
        "persample",
    ],
    ["clip", "noise", "sampling"],
    ["microbatch", "step", "compiled"],
    ["modules"],
    [
        "checking.report",
        "checking.looking",
        "checking.state",
        "checking.calls",
        "checking.running",
        "checking.findings",
        "checking.mixing",
        "checking.probing",
        "checking.check",
        "checking",
        "folding",
        "fixing",
    ],
    [
        "loop",
        "loop.hooks",
        "loop.budget",
        "loop.checks",
        "loop.resizing",
        "loop.program",
        "loop.batches",
        "loop.parts",
        "loop.forward",
        "loop.separable",
        "engine",
    ],
    ["sinks", "monitoring"],
    [
        "integrations",
        "integrations.turns",
        "integrations.resuming",
        "integrations.step_dataset",
        "integrations.trainer_checks",
        "integrations.token_loss",
        "integrations.huggingface",
        "integrations.lightning",
    ],
    [""],
    ["drawing"],
    ["demo.data", "demo.training", "demo.report", "demo.command", "demo"],
    [
        "commands",
        "commands.plots",
        "commands.options",
        "commands.epsilon",
        "commands.noise",
        "commands.steps",
        "commands.plan",
    ],
    ["__main__"],
]
ORDER = [name for rung in LADDER for name in rung]
# Outside its own package a module may import only these standard or third-party packages.
ACCOUNTING_MAY_IMPORT = {
    "bisect",
    "collections",
    "contextlib",
    "dataclasses",
    "itertools",
    "json",
    "functools",
    "math",
    "numpy",
    "scipy",
    "sys",
    "typing",
}


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            if node.module == "dpfunc" or all(n.removeprefix("dpfunc.") in ORDER for n in names):
                yield from ((name, node) for name in names)
            else:
                yield node.module, node


def test_every_file_has_a_rung():
    assert sorted(ORDER) == sorted(module_name(path) for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_down_only(path):
    name, tree = module_name(path), ast.parse(path.read_text())
    for imported, _ in imports(tree):
        if imported == "dpfunc" or imported.startswith("dpfunc."):
            target = imported.removeprefix("dpfunc").removeprefix(".")
            assert ORDER.index(target) < ORDER.index(name), f"{name} imports {imported}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_stand_at_the_top_but_for_optional_packages(path):
    tree = ast.parse(path.read_text())
    inside = [n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)]
    for imported, node in imports(tree):
        if node in inside:
            optional = ("dp_accounting", "matplotlib", "mlxtend", "rich", "tqdm")
            assert imported.split(".")[0] in optional or imported == "torch.utils.tensorboard"
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


@pytest.mark.parametrize("path", sorted((PACKAGE / "accounting").glob("*.py")), ids=module_name)
def test_the_accountant_needs_numpy_and_scipy_alone(path):
    for imported, _ in imports(ast.parse(path.read_text())):
        top = imported.split(".")[0]
        if top == "dp_accounting":  # optional, inside a function: the test above allows no other
            continue
        assert top in ACCOUNTING_MAY_IMPORT or imported.startswith(
            ("dpfunc.accounting", "dpfunc.checks")
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
    if module_name(path) not in ("random",):
        assert "import secrets" not in text


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_assert_and_no_silenced_exception(path):
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Assert), node.lineno
        if isinstance(node, ast.ExceptHandler):
            assert not all(isinstance(child, ast.Pass) for child in node.body), node.lineno

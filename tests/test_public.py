"""The public names: what the stub tells type checkers is what ``import dpfunc`` gives."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import dpfunc as dp

FACES = [dp, dp.accounting, dp.correlated]


def stub_of(package):
    """The names in the stub of a package, and where each is from."""
    stub = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text())
    return {
        alias.asname: (node.module, alias.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


LISTED = [(package, name) for package in FACES for name in stub_of(package)]


@pytest.mark.parametrize("package", FACES, ids=lambda package: package.__name__)
def test_the_stub_lists_every_name(package):
    assert set(stub_of(package)) == set(package.__all__) == set(dir(package))


@pytest.mark.parametrize(("package", "name"), LISTED, ids=lambda value: str(value)[-40:])
def test_the_stub_and_the_package_agree(package, name):
    module, original = stub_of(package)[name]
    assert original == name
    if module == "dpfunc":
        assert getattr(dp, name) is importlib.import_module(f"dpfunc.{name}")
    else:
        assert getattr(package, name) is getattr(importlib.import_module(module), name)


def test_names_are_imported_when_they_are_used():
    """Training does not wait for the engines of the accountant, nor for SciPy's functions."""
    slow = ("scipy.special", "dpfunc.accounting.engines", "dpfunc.accounting.questions")
    asked = (
        f"import sys, dpfunc; dpfunc.PrivateGrad; print([n for n in {slow} if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True)
    assert run.stdout == "[]\n"


def test_an_unknown_name_is_an_attribute_error():
    for package in FACES:
        with pytest.raises(AttributeError, match=f"'{package.__name__}' has no .* 'privacy'"):
            package.privacy  # noqa: B018  # the access itself is what is tested


def test_every_public_callable_has_a_docstring_with_an_example():
    for name in dp.__all__:
        value = getattr(dp, name)
        if callable(value) and name != "Key":
            assert ">>>" in value.__doc__, name

"""The public names: what the stub tells type checkers is what ``import dpfunc`` gives."""

import ast
import importlib
from pathlib import Path

import pytest

import dpfunc as dp

STUB = ast.parse(Path(dp.__file__).with_suffix(".pyi").read_text())
IMPORTS = {
    alias.asname: (node.module, alias.name)
    for node in STUB.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}


def test_the_stub_lists_every_name():
    assert set(IMPORTS) == set(dp.__all__) == set(dir(dp))


@pytest.mark.parametrize("name", IMPORTS)
def test_the_stub_and_the_package_agree(name):
    module, original = IMPORTS[name]
    assert original == name
    if module == "dpfunc":
        assert getattr(dp, name) is importlib.import_module(f"dpfunc.{name}")
    else:
        assert getattr(dp, name) is getattr(importlib.import_module(module), name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'privacy'"):
        dp.privacy  # noqa: B018  # the access itself is what is tested


def test_every_public_callable_has_a_docstring_with_an_example():
    for name in dp.__all__:
        value = getattr(dp, name)
        if callable(value) and name != "Key":
            assert ">>>" in value.__doc__, name

"""Packages whose names are imported when they are first used: what is not asked for costs nothing.

Type checkers and the site read the stub of such a package, which tests hold to its names.
"""

from collections.abc import Callable, Mapping
from importlib import import_module


def from_homes(
    package: str, homes: Mapping[str, str], names: dict[str, object]
) -> Callable[[str], object]:
    """A ``__getattr__`` for the ``package``, whose ``globals()`` are ``names``.

    ``homes``: the module of each name, which has to be no module of the package itself.
    """

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(homes[name]), name)
        names[name] = value  # the next use finds it without this function
        return value

    return find

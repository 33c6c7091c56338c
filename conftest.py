"""Doctests of what needs an optional package are collected where that package is installed."""

from importlib.util import find_spec

NEEDS = {
    "dpfunc/integrations/huggingface.py": ("accelerate", "transformers"),
    "dpfunc/integrations/lightning.py": ("lightning",),
}

collect_ignore = [
    path for path, packages in NEEDS.items() if not all(find_spec(name) for name in packages)
]

"""Draw the figures of the tutorials again, each by the code on its own page.

python -m tests.figures                 all of them
python -m tests.figures names research  those of some pages
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.pages import TUTORIALS, figures, run

torch.set_num_threads(1)  # as in the tests


def draw(page: Path) -> None:
    """Run ``page`` in an empty folder and copy what it shows to its side."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run(page)
        for name in figures(page):
            shutil.copyfile(name, page.parent / name)
        os.chdir(page.parent)
    sizes = [
        f"{name} {(page.parent / name).stat().st_size / 1000:.0f} kB" for name in figures(page)
    ]
    print(f"{page.name}: {time.process_time() - started:.1f} s of CPU, {', '.join(sizes)}")


if __name__ == "__main__":
    for tutorial in TUTORIALS:
        if not sys.argv[1:] or tutorial.stem in sys.argv[1:]:
            draw(tutorial)

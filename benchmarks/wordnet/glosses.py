"""The data: WordNet's ``data.noun`` in, definitions and their lexicographer classes out.

Debian's ``wordnet-base`` installs the file; wndb(5WN) and lexnames(5WN) describe it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import dpfunc as dp

DEFAULT_PATH = Path("/usr/share/wordnet/data.noun")

# fmt: off
CLASSES = [
    "Tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication",
    "event", "feeling", "food", "group", "location", "motive", "object", "person",
    "phenomenon", "plant", "possession", "process", "quantity", "relation", "shape",
    "state", "substance", "time",
]
# fmt: on
_FIRST_CLASS = 3  # the number of noun.Tops in lexnames(5WN)

TRAIN, TEST = 20_000, 4_000
SPLIT_KEY = dp.key(20_000)  # public: it says which glosses are test ones, and protects nothing


class Gloss(NamedTuple):
    """What a synset means, without examples, and the index of its class in `CLASSES`."""

    text: str
    label: int


class Split(NamedTuple):
    """Glosses to train on and to test on; no text is in both."""

    train: list[Gloss]
    test: list[Gloss]


class DataError(Exception):
    """A file that is missing or is not what it should be; the message says what to do."""


def read(path: Path = DEFAULT_PATH) -> list[Gloss]:
    """The glosses of ``data.noun`` in the file's order, each text once."""
    if not path.is_file():
        raise DataError(
            f"expected WordNet's data.noun but there is no file {path}: "
            "apt-get install wordnet-base, or pass --glosses FILE"
        )
    lines = path.read_text(encoding="latin-1").splitlines()
    glosses = [
        parsed(line) for line in lines if not line.startswith("  ")
    ]  # the licence is indented
    return list({gloss.text: gloss for gloss in reversed(glosses)}.values())[::-1]


def parsed(line: str) -> Gloss:
    """One line of the file: ``offset class n words... pointers... | definition; "example"``."""
    head, bar, gloss = line.partition(" | ")
    fields = head.split()
    if not bar or len(fields) < 3 or fields[2] != "n" or not fields[1].isdecimal():
        raise DataError(f"expected a noun synset of data.noun but got {line[:60]!r}")
    label = int(fields[1]) - _FIRST_CLASS
    if not 0 <= label < len(CLASSES):
        raise DataError(f"expected a noun class from 3 to 28 but got {fields[1]} in {line[:60]!r}")
    return Gloss(definition(gloss), label)


def definition(gloss: str) -> str:
    """A gloss without the quoted examples, which name the word and sometimes little else."""
    return gloss.split('; "')[0].strip()


def splits(
    glosses: Sequence[Gloss], *, train: int = TRAIN, test: int = TEST
) -> tuple[Split, Split]:
    """Two splits without a common gloss: the one that is reported, and one to tune on.

    The first ``train + test`` of a permutation, and the next.
    """
    size = train + test
    if len(glosses) < 2 * size:
        raise DataError(f"expected at least {2 * size} glosses but got {len(glosses)}")
    shuffled = [glosses[i] for i in dp.permutation(SPLIT_KEY, len(glosses)).tolist()]
    reported, tuning = shuffled[:size], shuffled[size : 2 * size]
    return Split(reported[:train], reported[train:]), Split(tuning[:train], tuning[train:])

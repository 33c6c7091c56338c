"""Break a formula of the events on purpose, one at a time, and show which tests go red.

    python -m tests.accounting.event_mutants

Each mutant is a mistake that would make an epsilon wrong without anything failing at run time.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Mutant(NamedTuple):
    mistake: str
    file: str
    right: str
    wrong: str
    tests: str  # the test files that have to notice


MUTANTS = [
    Mutant(
        "a replaced record moves once",
        "release.py",
        'distance = 2 * records if relation == "replace_one" else records',
        "distance = records",
        "release renyi",
    ),
    Mutant(
        "q for 1 - q in a sampled promise",
        "combine.py",
        "(1 - rate) * r + rate * p, r, strict=True",
        "(1 - rate) * p + rate * r, r, strict=True",
        "sampled_release",
    ),
    Mutant(
        "adding swapped with removing",
        "sampled_release.py",
        "return additive_pair(mechanism, below=moves)",
        "return additive_pair(mechanism, above=moves)",
        "sampled_release",
    ),
    Mutant(
        "adding a promise as removing it",
        "sampled_release.py",
        'return sampled(base, rate, adds=order == "add")',
        "return sampled(base, rate, adds=False)",
        "sampled_release",
    ),
    Mutant(
        "a fixed-size batch at distance 1",
        "sampled_release.py",
        "return symmetric(additive_pair(mechanism, ((2, rate),)))",
        "return symmetric(additive_pair(mechanism, ((1, rate),)))",
        "sampled_release",
    ),
    Mutant(
        "a fixed-size batch without its mirror image",
        "sampled_release.py",
        "return symmetric(additive_pair(mechanism, ((2, rate),)))",
        "return additive_pair(mechanism, ((2, rate),))",
        "sampled_release",
    ),
    Mutant(
        "draws counted once",
        "sampled_release.py",
        "tuple((2 * k, weight) for k, weight in draws)",
        "tuple((2, weight) for k, weight in draws)",
        "sampled_release",
    ),
    Mutant(
        "the tail of the draws dropped",
        "sampled_release.py",
        "draws.append((batch_size, max(more, 1e-270)))",
        "draws = draws[:1]",
        "sampled_release",
    ),
    Mutant(
        "the cut of a truncated sample ignored",
        "sampled_release.py",
        "return either([(1 - cut, plain), (cut, fixed)], rounding=_BINOMIAL)",
        "return plain",
        "sampled_release",
    ),
    Mutant(
        "the chance of a cut without x for that with it",
        "sampled_release.py",
        "cut = float(bdtrc(cap - 1, others, rate))",
        "cut = float(bdtrc(cap, others, rate))",
        "sampled_release",
    ),
    Mutant(
        "the ways to choose who is read forgotten",
        "sampled_release.py",
        "return math.comb(n, k) * rate**k",
        "return rate**k",
        "sampled_release",
    ),
    Mutant(
        "scale for its square",
        "integer_mixture.py",
        "return shift * (2 * x - shift) / (2 * self.sigma**2)",
        "return shift * (2 * x - shift) / (2 * self.sigma)",
        "release",
    ),
    Mutant(
        "tail mass of discrete noise dropped",
        "integer_mixture.py",
        "mass[-1] = self._at_most(-int(k[-1]))",
        "pass",
        "release",
    ),
    Mutant(
        "half a Laplace",
        "laplace_mixture.py",
        "exponents = [np.clip(2 * y - move, -move, move) for move in moves]",
        "exponents = [np.clip(y - move / 2, -move, move) for move in moves]",
        "release",
    ),
    Mutant(
        "the exponential mechanism at its best, not its worst",
        "bounded_range.py",
        "p = scale * np.exp((high - self.eta) / 2) * rise",
        "p = scale * np.exp(high - self.eta) * rise",
        "release",
    ),
    Mutant(
        "delta of a promise lost",
        "finite_loss.py",
        "(math.inf, delta, 0.0),",
        "(math.inf, 0.0, 0.0),",
        "release",
    ),
    Mutant(
        "group privacy adds deltas only",
        "release.py",
        "each = [delta * math.exp(min(step * epsilon, 700.0)) for step in range(records)]",
        "each = [delta for step in range(records)]",
        "release",
    ),
    Mutant(
        "a group answers once",
        "leaves.py",
        "times, records = times * records, 1",
        "records = 1",
        "leaves",
    ),
    Mutant(
        "a nested repeat counted once",
        "leaves.py",
        "return _flatten(inner, times * repeats, records)",
        "return _flatten(inner, repeats, records)",
        "leaves",
    ),
    Mutant(
        "a sum of equal runs loses one",
        "algebra.py",
        "parts[-1] = Repeat(event, times + as_run(part)[1])",
        "parts[-1] = Repeat(event, max(times, as_run(part)[1]))",
        "algebra",
    ),
    Mutant(
        "an unknown field of JSON ignored",
        "serialise.py",
        "_require_fields(name, content, names)",
        "content = {key: content[key] for key in names}",
        "serialise",
    ),
    Mutant(
        "the filter looks at the history alone",
        "filters.py",
        "return spent(history + release) * (1 + 1e-12) <= target_epsilon",
        "return spent(history) * (1 + 1e-12) <= target_epsilon",
        "filters",
    ),
    Mutant(
        "the filter looks at the release alone",
        "filters.py",
        "return spent(history + release) * (1 + 1e-12) <= target_epsilon",
        "return spent(release) * (1 + 1e-12) <= target_epsilon",
        "filters",
    ),
    Mutant(
        "rho twice too small",
        "concentrated.py",
        "return epsilon**2 / 2",
        "return epsilon**2 / 4",
        "filters",
    ),
    Mutant(
        "deltas of releases forgotten by the filter",
        "filters.py",
        "left = (self.delta - lost) * (1 - 1e-12)",
        "left = self.delta",
        "filters",
    ),
    Mutant(
        "the odometer takes its best order without paying for the choice",
        "filters.py",
        "share = math.log(len(self.orders) / self.delta)",
        "share = math.log(1 / self.delta)",
        "filters",
    ),
]


def red_tests(mutant: Mutant) -> list[str]:
    """The tests that fail with the mistake in place, in a copy of the project."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("dpfunc", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        source = copy / "dpfunc/accounting" / mutant.file
        text = source.read_text()
        if text.count(mutant.right) != 1:
            raise SystemExit(f"{mutant.mistake}: expected one {mutant.right!r} in {mutant.file}.")
        source.write_text(text.replace(mutant.right, mutant.wrong))
        files = [f"tests/accounting/test_{name}.py" for name in mutant.tests.split()]
        options = ["-n", "0", "-q", "--tb=no", "-p", "no:cacheprovider"]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *files],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode not in (0, 1):
            raise SystemExit(f"{mutant.mistake}: pytest stopped:\n{run.stdout}{run.stderr}")
        return [line for line in run.stdout.splitlines() if line.startswith("FAILED")]


def main() -> int:
    survived = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, red in zip(MUTANTS, pool.map(red_tests, MUTANTS), strict=True):
            counts = {
                name: sum(f"/test_{name}.py" in line for line in red)
                for name in mutant.tests.split()
            }
            caught = all(counts.values())
            survived += not caught
            print(
                f"{'caught' if caught else 'SURVIVED':8}  {mutant.mistake:64}  {counts}", flush=True
            )
    print(f"{len(MUTANTS) - survived} of {len(MUTANTS)} mutants caught")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())

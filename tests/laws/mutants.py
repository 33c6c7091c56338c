"""Break dpfunc on purpose, one line at a time, and show which law goes red.

A law that no wrong line can break proves nothing. Each mutant below is a mistake that would
silently void the guarantee; the law tests must fail for every one of them::

    python -m tests.laws.mutants
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
    laws: str  # the laws that have to notice


MUTANTS = [
    Mutant(
        "noise x 0.95",
        "noise.py",
        "return self.noise_multiplier * bound",
        "return 0.95 * self.noise_multiplier * bound",
        "l2 l4 l5",
    ),
    Mutant(
        "clip skipped for one parameter",
        "step.py",
        'weights = masked(self.clip.weights(norms, state["clip"]), mask[where])',
        'weights = masked(self.clip.weights(norms, state["clip"]), mask[where])\n'
        "            weights.values[next(iter(norms))] = mask[where].to(losses.dtype)",
        "l1 l4",
    ),
    Mutant(
        "mean instead of sum",
        "persample/factors.py",
        "return weigh(self.values, weights).sum(0)",
        "return weigh(self.values, weights).sum(0) / max(1, len(weights))",
        "l1 l4 l6",
    ),
    Mutant(
        "rate x 1.2",
        "sampling.py",
        "threshold = int(rate * 2.0**64) - 2**63",
        "threshold = int(min(0.999, 1.2 * rate) * 2.0**64) - 2**63",
        "l3 l4 l5",
    ),
    Mutant(
        "key reused across steps",
        "noise.py",
        'key = fold_in(self.key, "noise", step, name)',
        'key = fold_in(self.key, "noise", name)',
        "l2 l4",
    ),
    Mutant(
        "mask ignored",
        "step.py",
        "torch.where(mask, value, 0.0) for name",
        "torch.where(mask | True, value, 0.0) for name",
        "l1 l4 l6",
    ),
    Mutant(
        "divisor = realised batch size",
        "step.py",
        "(noisy[name] / self.expected_batch_size)",
        "(noisy[name] / max(1, int(mask.sum())))",
        "l2 l6",
    ),
    Mutant(
        "NaN sample let through",
        "clip.py",
        "return torch.where(norms.isfinite(), weights, 0.0)",
        "return weights",
        "l1",
    ),
    Mutant(
        "dropped samples multiplied by zero, not replaced",
        "persample/factors.py",
        "return torch.where(_over(weights, values) != 0, accumulable(values), 0.0)",
        "return accumulable(values).clone()",
        "l1",
    ),
    Mutant(
        "noise added for every microbatch",
        "step.py",
        "part = self._clipped_sum(params, args, state, mask)",
        "part = self._clipped_sum(params, args, state, mask)\n"
        "        for extra in slices(mask.shape[0], self.microbatch_size)[1:]:\n"
        '            more = self.noise.add(part.summed, {"step": 10**6 + extra.start})[0]\n'
        "            part = part._replace(summed=Summed(more, part.summed.bound))",
        "l2 l4 l6",
    ),
    Mutant(
        "one noise for all parameters",
        "noise.py",
        'key = fold_in(self.key, "noise", step, name)',
        'key = fold_in(self.key, "noise", step)',
        "l2 l4",
    ),
    Mutant(
        "clipped at 1.1 max_norm",
        "clip.py",
        "return (max_norm / norms).clamp(max=1.0)",
        "return (1.1 * max_norm / norms).clamp(max=1.0)",
        "l1 l4",
    ),
    Mutant(
        "a step is not counted",
        "noise.py",
        'return released, {"step": step + 1}',
        'return released, {"step": step + (step != 3)}',
        "l5",
    ),
    Mutant(
        "norms and sums in the precision of autocast",
        "persample/precision.py",
        "if torch.is_autocast_enabled(device):",
        "if False:",
        "l1",
    ),
    Mutant(
        "squares added in a row",
        "persample/factors.py",
        "return accumulable(_as_rows(values)).square().sum(1)",
        "return torch.linalg.vector_norm(accumulable(_as_rows(values)), dim=1).square()",
        "l1",
    ),
    Mutant(
        "norms of two uses added",
        "persample/combine.py",
        "return (outer.norm_sq() + scatter.norm_sq() + 2 * crossed)",
        "return (outer.norm_sq() + scatter.norm_sq() + 0 * crossed)",
        "l7",
    ),
    Mutant(
        "an unmapped input summed over the batch",
        "persample/whole_batch.py",
        "return values.expand(size, *values.shape)",
        "return values.expand(size, *values.shape) / size",
        "l7",
    ),
    Mutant(
        "a Gram matrix without its cross terms",
        "persample/outer.py",
        "return gram.sum((1, 2)).clamp_(min=0.0)",
        "return gram.diagonal(dim1=1, dim2=2).sum(1).clamp_(min=0.0)",
        "l7",
    ),
    Mutant(
        "the padding row trained",
        "persample/rules/lookup.py",
        "if padding_idx is not None:  # the row",
        "if padding_idx is None and not len(table):  # the row",
        "l7",
    ),
    Mutant(
        "accountant: rate q read as 1 - q",
        "accounting/sampled_release.py",
        "return ((records, rate),)",
        "return ((records, 1 - rate if rate < 1 else rate),)",
        "l8",
    ),
    Mutant(
        "accountant: sigma read as sigma squared",
        "accounting/release.py",
        "return GaussianMixture(sigma, _as_floats(above), _as_floats(below))",
        "return GaussianMixture(sigma**2, _as_floats(above), _as_floats(below))",
        "l8",
    ),
    Mutant(
        "accountant: adding and removing swapped",
        "accounting/sampled_release.py",
        """        case "remove":
            return additive_pair(mechanism, above=moves)""",
        """        case "remove":
            return additive_pair(mechanism, below=moves)""",
        "l8",
    ),
    Mutant(
        "accountant: tail mass dropped",
        "accounting/atoms.py",
        "masses[0] += p.mass[0]",
        "masses[0] += 0 * p.mass[0]; masses[len(nodes) // 2 :] = 0",
        "l8",
    ),
    Mutant(
        "accountant: a cell's mass put on its lower end",
        "accounting/atoms.py",
        "masses[1:] += up\n    masses[:-1] += p.mass[inner] - up",
        "masses[:-1] += p.mass[inner]",
        "l8",
    ),
    Mutant(
        "accountant: the kernel without its second factor",
        "accounting/contour.py",
        "terms = np.exp(exponent) / (z * (z + 1))",
        "terms = np.exp(exponent) / (z * (z + 1.2))",
        "l8",
    ),
    Mutant(
        "accountant: a step forgotten",
        "accounting/contour.py",
        "total = total + float(times) * one.log()",
        "total = total + float(times - 1) * one.log()",
        "l8",
    ),
]


def red_tests(mutant: Mutant) -> list[str]:
    """The law tests that fail with the mistake in place, in a copy of the project."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("dpfunc", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        source = copy / "dpfunc" / mutant.file
        text = source.read_text()
        if text.count(mutant.right) != 1:
            raise SystemExit(f"{mutant.mistake}: expected one {mutant.right!r} in {mutant.file}.")
        source.write_text(text.replace(mutant.right, mutant.wrong))
        laws = [
            str(p)
            for law in mutant.laws.split()
            for p in (copy / "tests/laws").glob(f"test_{law}_*")
        ]
        run = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-n",
                "0",
                "-q",
                "--tb=no",
                "-p",
                "no:cacheprovider",
                *laws,
            ],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode not in (0, 1):
            raise SystemExit(f"{mutant.mistake}: pytest stopped:\n{run.stdout}{run.stderr}")
        return [
            line.split(" - ")[0] for line in run.stdout.splitlines() if line.startswith("FAILED")
        ]


def _report(mutant: Mutant, red: list[str]) -> bool:
    """Print what went red; whether every law that has to notice did."""
    by_law = {law: sum(f"/test_{law}_" in line for line in red) for law in mutant.laws.split()}
    caught = all(by_law.values())
    counts = ", ".join(f"{law.upper()}: {count} red" for law, count in by_law.items())
    print(f"{'caught' if caught else 'SURVIVED':8}  {mutant.mistake:48}  {counts}", flush=True)
    if red:
        print(f"          {red[0].removeprefix('FAILED ')}", flush=True)
    return caught


def main() -> int:
    survived = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, red in zip(MUTANTS, pool.map(red_tests, MUTANTS), strict=True):
            survived += not _report(mutant, red)
    print(f"{len(MUTANTS) - survived} of {len(MUTANTS)} mutants caught by every law named for them")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())

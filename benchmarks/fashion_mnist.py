"""Fashion-MNIST with the tanh CNN of Tramer and Boneh 2021 at epsilon 3: test accuracy.

Published for this network at epsilon 3, delta 1e-5: 86.0 % (arXiv:2011.11660). Debian's
``dataset-fashion-mnist`` installs the data::

    python benchmarks/fashion_mnist.py --data /usr/share/datasets/fashion-mnist
"""

import argparse
import time
from pathlib import Path

import torch

import dpfunc as dp
from dpfunc import accounting
from dpfunc.commands.demo.data import load_folder
from dpfunc.commands.demo.training import Plan, tanh_cnn, train_private

EXPECTED_BATCH_SIZE = 2048
EPOCHS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the four IDX files")
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--seed", type=int, help="default: a key from the operating system")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    key = dp.key(options.seed)
    data = load_folder(options.data).to(torch.device(options.device))
    budget = {
        "sample_rate": EXPECTED_BATCH_SIZE / len(data.train_y),
        "steps": EPOCHS * len(data.train_y) // EXPECTED_BATCH_SIZE,
        "target_epsilon": options.epsilon,
        "delta": options.delta,
    }
    sigma = accounting.noise_multiplier(**budget)
    plan = Plan(**budget, noise_multiplier=sigma, evaluate_every=100)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {plan}", flush=True)
    start = time.perf_counter()
    for progress in train_private(tanh_cnn(key).to(options.device), data, plan, key):
        if progress.step % plan.evaluate_every == 0 or progress.step == plan.steps:
            print(
                f"step {progress.step:5d}  loss {progress.loss:.4f}  test accuracy "
                f"{progress.accuracy:.4f}  epsilon {progress.epsilon:.4f}  "
                f"{time.perf_counter() - start:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()

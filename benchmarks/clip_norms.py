"""Does `AdaptiveClip` find the clipping norm? Fixed norms over three decades, and learned ones.

Fashion-MNIST, the network and the loop of `benchmarks.correlated`, DP-SGD at one epsilon; the count
of the learned norm is paid for out of it. Steps are in units of the norm, so that the rate does not
move with it; the rate of each contender is the best of two on images held out of training::

    python -m benchmarks.clip_norms --data /usr/share/datasets/fashion-mnist
"""

import argparse
from pathlib import Path
from statistics import mean, stdev

import torch

import dpfunc as dp
from benchmarks.correlated import BATCH, DELTA, EPOCHS, HELD_OUT, MOMENTUM, accuracy, loss_fn, start
from dpfunc.commands.demo.data import load_folder

NORMS, STARTS, RATES = (0.1, 1.0, 10.0, 100.0), (0.1, 100.0), (0.1, 0.3)


def trained(
    norm: float, learns: bool, data: tuple, test: tuple, rate: float, seed: int, **setting
) -> float:
    """Test accuracy after one run from a clipping norm, which is learned or stays."""
    epsilon, batch = setting.get("epsilon", 4.0), setting.get("batch", BATCH)
    size, key = len(data[1]), dp.fold_in(dp.key(seed), "clip norms")
    sampler = dp.sampling.Poisson(size=size, rate=batch / size)
    steps = EPOCHS * size // batch
    s = dp.correlated.noise_multiplier(
        target_epsilon=epsilon, delta=DELTA, sampler=sampler, steps=steps
    )
    clip: dp.Clip | dp.AdaptiveClip = dp.Clip(norm)
    if learns:
        clip = dp.AdaptiveClip(norm, count_noise=batch / 20, expected_batch_size=batch, key=key)
        s = clip.noise_left(s)
    private = dp.PrivateGrad(
        loss_fn,
        clip=clip,
        noise=dp.GaussianNoise(s, key=key),
        expected_batch_size=sampler.expected_batch_size,
        sampler=sampler,
    )
    params = start(key)
    state, velocity = private.init(params), {n: torch.zeros_like(p) for n, p in params.items()}
    for step in range(steps):
        indices, mask = sampler.batch(key, step)
        grads, state, _ = private.update(params, (data[0][indices], data[1][indices]), state, mask)
        for name, grad in grads.items():
            unit = grad if learns else grad / norm  # a learned norm is the unit already
            velocity[name] = MOMENTUM * velocity[name] + unit
            params[name] = params[name] - rate * velocity[name]
    return accuracy(params, test)


def compared(folder: Path, seeds: int, images: int | None, **setting) -> dict[str, list[float]]:
    """Print and return the accuracies of all contenders."""
    found = load_folder(folder)
    x, y = found.train_x.flatten(1)[:images], found.train_y[:images]
    held = min(HELD_OUT, len(y) // 4)
    inner, outer = (x[held:], y[held:]), (x[:held], y[:held])
    test = (found.test_x.flatten(1), found.test_y)
    contenders = [(n, False) for n in NORMS] + [(n, True) for n in STARTS]
    results = {}
    for norm, learns in contenders:
        tried = {r: trained(norm, learns, inner, outer, r, 100, **setting) for r in RATES}
        rate = max(tried, key=tried.get)
        runs = [trained(norm, learns, (x, y), test, rate, seed, **setting) for seed in range(seeds)]
        name = f"{'learned from' if learns else 'fixed'} {norm:g}"
        results[name] = runs
        error = stdev(runs) / len(runs) ** 0.5 if len(runs) > 1 else float("nan")
        print(f"| {name} | {rate} | {mean(runs):.2f} | {error:.2f} |", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the four IDX files")
    parser.add_argument("--epsilon", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, help="of the first ones alone; all by default")
    options = parser.parse_args()
    print("| clipping norm | rate | accuracy | standard error |\n|---|---|---|---|")
    compared(options.data, options.seeds, options.images, epsilon=options.epsilon)


if __name__ == "__main__":
    main()

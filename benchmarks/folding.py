"""What becomes of a trained BatchNorm network when `fix_module` puts GroupNorm in its place.

A CNN learns half of the training digits without privacy (they stand for public data). Then its
BatchNorm layers are replaced, with running statistics dropped or folded, and the result is compared
with the network in eval mode on the test digits, as it is and after DP-SGD on the other half::

    python -m benchmarks.folding --seeds 0 1 2
"""

import argparse
import math

import torch
import torch.nn.functional as F
from torch import nn

import dpfunc as dp
from dpfunc import accounting
from dpfunc.commands.demo.data import Images, load_digits

BATCH, RATE, STEPS, SIGMA, DELTA = 64, 0.1, 30, 2.0, 1e-5


def network() -> nn.Module:
    layers: list[nn.Module] = []
    for inner, outer in ((1, 32), (32, 64), (64, 128)):
        convolution = nn.Conv2d(inner, outer, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outer), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def pretrained(x: torch.Tensor, y: torch.Tensor, key: dp.Key, epochs: int) -> nn.Module:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(epochs):
        for indices in dp.permutation(dp.fold_in(key, epoch), len(y)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(x[indices]), y[indices]).backward()
            optimizer.step()
    return model.eval()


def trained_privately(model: nn.Module, x: torch.Tensor, y: torch.Tensor, key: dp.Key) -> None:
    def loss_fn(params, x, y):
        return F.cross_entropy(torch.func.functional_call(model, params, (x[None],)), y[None])

    private = dp.PrivateGrad(
        loss_fn,
        clip=dp.Clip(1.0),
        noise=dp.GaussianNoise(SIGMA, key=key),
        expected_batch_size=RATE * len(y),
    )
    params = dp.named_params(model)
    state = private.init(params)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for step in range(STEPS):
        indices, mask = dp.sampling.poisson(key, step, size=len(y), rate=RATE)
        grads, state, _ = private.update(params, (x[indices], y[indices]), state, mask)
        dp.set_grads_(model, grads)
        optimizer.step()


def compared(data: Images, seed: int, epochs: int) -> dict[str, list[float]]:
    """By what was done: test accuracy, relative distance of the outputs, accuracy after DP-SGD."""
    key, half = dp.key(seed), len(data.train_y) // 2
    torch.manual_seed(seed)
    model = pretrained(data.train_x[:half], data.train_y[:half], key, epochs)
    with torch.no_grad():
        wanted = model(data.test_x)
    rows = {"BatchNorm in eval mode": [_accuracy(wanted, data), 0.0, math.nan]}
    for name, fold in (("GroupNorm, dropped", False), ("GroupNorm, folded", True)):
        fixed = dp.fix_module(model, fold_statistics=fold)
        with torch.no_grad():
            outputs = fixed(data.test_x)
        distance = float((outputs - wanted).norm() / wanted.norm())
        trained_privately(fixed, data.train_x[half:], data.train_y[half:], dp.fold_in(key, "dp"))
        with torch.no_grad():
            after = _accuracy(fixed(data.test_x), data)
        rows[name] = [_accuracy(outputs, data), distance, after]
    return rows


def _accuracy(outputs: torch.Tensor, data: Images) -> float:
    return float((outputs.argmax(1) == data.test_y).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6, help="of pretraining")
    options = parser.parse_args()
    data = load_digits(dp.key(0))
    event = accounting.dp_sgd(noise_multiplier=SIGMA, sample_rate=RATE, steps=STEPS)
    epsilon = accounting.epsilon(event, delta=DELTA)
    runs = [compared(data, seed, options.epochs) for seed in options.seeds]
    print(f"torch {torch.__version__}, seeds {options.seeds}, one figure for each")
    print(f"| | test accuracy | distance of outputs | after {STEPS} DP steps, eps {epsilon:.2f} |")
    print("|---|---|---|---|")
    for name in runs[0]:
        columns = zip(*(run[name] for run in runs), strict=True)
        cells = [" / ".join(f"{figure:.3f}" for figure in column) for column in columns]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

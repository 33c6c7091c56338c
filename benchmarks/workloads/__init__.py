"""The models that the step benchmark trains, by name: each call makes a fresh workload."""

from collections.abc import Callable

from benchmarks.workloads.images import cifar_cnn, mlp, mnist_cnn, resnet18, wrn_16_4
from benchmarks.workloads.language import embedding, gpt2, gpt2_lora, lstm, transformer
from benchmarks.workloads.layers import LAYERS
from benchmarks.workloads.workload import Workload

WORKLOADS: dict[str, Callable[[], Workload]] = {
    "mlp": mlp,
    "mnist_cnn": mnist_cnn,
    "cifar_cnn": cifar_cnn,
    "embedding": embedding,
    "lstm": lstm,
    "wrn_16_4": wrn_16_4,
    "resnet18": resnet18,
    "transformer": transformer,
    "gpt2": gpt2,
    "gpt2_lora": gpt2_lora,
    **LAYERS,
}


def make(name: str) -> Workload:
    """A fresh workload that knows its name."""
    return WORKLOADS[name]()._replace(name=name)

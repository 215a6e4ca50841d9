import gzip
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.datasets import (
    Dataset,
    corrupt_labels,
    load_cifar10,
    load_cifar100,
    load_digits,
    load_idx,
    load_svhn,
)
from refimpl.datasets.matlab import read_matlab
from refimpl.errors import BackendUnavailable, BadInput

N, ROWS, COLUMNS = 3, 2, 5  # pairwise different, so that no two axes can be exchanged unnoticed
PIXELS = 3072


def idx_bytes(magic: int, array: np.ndarray) -> bytes:
    header = magic.to_bytes(4, "big") + b"".join(length.to_bytes(4, "big") for length in array.shape)
    return header + array.astype(">i4" if magic == 0x0C02 else "u1").tobytes()


def write(path, content: bytes):
    path.write_bytes(content)
    return path


PICTURES = np.arange(N * ROWS * COLUMNS).reshape(N, ROWS, COLUMNS) * 8  # all different, the last is 232
CLASSES = np.array([7, 0, 9])
QMNIST = np.column_stack(
    [CLASSES, [0, 1, 4], [2599, 0, 610], [149, 3, 1], CLASSES + 30, [281769, 256, 65536]]
)
QMNIST = np.column_stack([QMNIST, np.zeros((N, 2), int)])
IMAGE_FILE, LABEL_FILE = idx_bytes(0x0803, PICTURES), idx_bytes(0x0801, CLASSES)
QMNIST_FILE = idx_bytes(0x0C02, QMNIST)


def is_dataset(data: Dataset, shape: tuple[int, int], classes: int) -> bool:
    return (
        (data.X.shape, data.X.dtype, data.y.shape, data.y.dtype) == (shape, np.float64, shape[:1], np.int64)
        and data.classes == classes
        and 0 <= data.X.min()
        and data.X.max() <= 1
        and 0 <= data.y.min()
        and data.y.max() < classes
    )


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("labels", [LABEL_FILE, QMNIST_FILE], ids=["mnist", "qmnist"])
def test_idx_round_trip(tmp_path, labels, pack):
    # The suffix says the opposite of the content: what decides is the content.
    images = write(tmp_path / "images.gz" if pack is bytes else tmp_path / "images", pack(IMAGE_FILE))
    data = load_idx(images, write(tmp_path / "labels", pack(labels)), name="small")
    assert is_dataset(data, (N, ROWS * COLUMNS), 10)
    assert data.name == "small"
    np.testing.assert_array_equal(data.X * 255, PICTURES.reshape(N, -1))
    np.testing.assert_array_equal(data.y, CLASSES)


def test_idx_scale_reaches_one(tmp_path):
    images = write(tmp_path / "images", idx_bytes(0x0803, np.array([[[0, 255]]])))
    data = load_idx(str(images), str(write(tmp_path / "labels", idx_bytes(0x0801, np.array([3])))))
    assert data.X.tolist() == [[0.0, 1.0]]


BAD_IDX = {
    # name: (images, labels, what the message measures)
    "images empty": (b"", LABEL_FILE, "0 bytes"),
    "labels empty": (IMAGE_FILE, b"", "0 bytes"),
    "gzip of nothing": (gzip.compress(b""), LABEL_FILE, "0 bytes"),
    "magic cut": (b"\0\0\x08", LABEL_FILE, "0x000008"),
    "not idx": (b"<html>not found</html>", LABEL_FILE, "0x3c68746d"),
    "wrong type": (idx_bytes(0x0903, PICTURES), LABEL_FILE, "0x00000903"),
    "exchanged": (LABEL_FILE, IMAGE_FILE, "0x00000801"),
    "little endian": (IMAGE_FILE[:4][::-1] + IMAGE_FILE[4:], LABEL_FILE, "0x03080000"),
    "header cut": (IMAGE_FILE[:15], LABEL_FILE, "15 bytes"),
    "header only": (IMAGE_FILE[:16], LABEL_FILE, "16 bytes"),
    "truncated": (IMAGE_FILE[:-1], LABEL_FILE, f"{len(IMAGE_FILE) - 1} bytes"),
    "trailing": (IMAGE_FILE + b"\0", LABEL_FILE, f"{len(IMAGE_FILE) + 1} bytes"),
    "labels truncated": (IMAGE_FILE, LABEL_FILE[:-1], f"{len(LABEL_FILE) - 1} bytes"),
    "labels trailing": (IMAGE_FILE, LABEL_FILE + b"\n", f"{len(LABEL_FILE) + 1} bytes"),
    "qmnist truncated": (IMAGE_FILE, QMNIST_FILE[:-4], f"{len(QMNIST_FILE) - 4} bytes"),
    "gzip truncated": (gzip.compress(IMAGE_FILE)[:-9], LABEL_FILE, "end"),
    "gzip altered": (
        gzip.compress(IMAGE_FILE)[:-8] + b"\0\0\0\0" + gzip.compress(IMAGE_FILE)[-4:],
        LABEL_FILE,
        "CRC",
    ),
    "gzip trailing": (gzip.compress(IMAGE_FILE) + b"x", LABEL_FILE, "gzip"),
    "no images": (idx_bytes(0x0803, PICTURES[:0]), LABEL_FILE, "(0, 2, 5)"),
    "no pixels": (idx_bytes(0x0803, PICTURES[:, :, :0]), LABEL_FILE, "(3, 2, 0)"),
    "fewer labels": (IMAGE_FILE, idx_bytes(0x0801, CLASSES[:2]), "3 images and 2 labels"),
    "label 10": (IMAGE_FILE, idx_bytes(0x0801, np.array([7, 10, 255])), "label 10 at index 1; 2 of 3"),
    "label -1": (IMAGE_FILE, idx_bytes(0x0C02, QMNIST - np.array([1] + [0] * 7)), "label -1 at index 1"),
    "seven columns": (IMAGE_FILE, idx_bytes(0x0C02, QMNIST[:, :7]), "7 columns"),
    "huge header": (IMAGE_FILE[:4] + b"\xff" * 12 + IMAGE_FILE[16:], LABEL_FILE, f"{len(IMAGE_FILE)} bytes"),
}


@pytest.mark.parametrize(("images", "labels", "measured"), BAD_IDX.values(), ids=BAD_IDX)
def test_idx_refuses(tmp_path, images, labels, measured):
    paths = write(tmp_path / "images", images), write(tmp_path / "labels", labels)
    refused(measured, load_idx, *paths)


def refused(measured: str, call, *arguments, **options) -> None:
    with pytest.raises(BadInput) as caught:
        call(*arguments, **options)
    assert measured in str(caught.value.measured)
    assert caught.value.required
    assert caught.value.advice


def test_path_that_is_no_file(tmp_path):
    refused("no such file", load_cifar10, tmp_path / "absent")
    refused("a directory", load_svhn, tmp_path)
    refused("0 paths", load_cifar10)


def test_idx_with_more_classes(tmp_path):
    files = write(tmp_path / "images", IMAGE_FILE), write(tmp_path / "y", idx_bytes(0x0801, CLASSES + 37))
    assert load_idx(*files, classes=47).y.tolist() == [44, 37, 46]
    refused("label 46", load_idx, *files, classes=46)


def cifar_bytes(labels: np.ndarray, seed: int) -> tuple[bytes, np.ndarray]:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(len(labels), PIXELS))
    return np.column_stack([labels, pixels]).astype(np.uint8).tobytes(), pixels


def test_cifar10_joins_batches_in_order(tmp_path):
    (first, X1), (second, X2) = cifar_bytes(np.array([9, 0]), seed=1), cifar_bytes(np.array([4]), seed=2)
    data = load_cifar10(write(tmp_path / "1.bin", first), write(tmp_path / "2.bin", gzip.compress(second)))
    assert is_dataset(data, (3, PIXELS), 10)
    assert data.y.tolist() == [9, 0, 4]
    np.testing.assert_array_equal(data.X, np.concatenate([X1, X2]) / 255)


@pytest.mark.parametrize(("labels", "classes", "y"), [("fine", 100, [99, 20]), ("coarse", 20, [0, 19])])
def test_cifar100(tmp_path, labels, classes, y):
    content, pixels = cifar_bytes(np.array([[0, 99], [19, 20]]), seed=3)
    data = load_cifar100(write(tmp_path / "train.bin", content), labels=labels)
    assert is_dataset(data, (2, PIXELS), classes)
    assert (data.y.tolist(), data.name) == (y, f"cifar100-{labels}")
    np.testing.assert_array_equal(data.X, pixels / 255)


TEN, HUNDRED = cifar_bytes(np.array([9, 0]), seed=4)[0], cifar_bytes(np.array([[19, 99], [0, 0]]), seed=4)[0]
BAD_CIFAR = {
    "empty": (load_cifar10, b"", "0 bytes"),
    "truncated": (load_cifar10, TEN[:-1], "6145 bytes = 1 records + 3072 bytes"),
    "trailing": (load_cifar10, TEN + b"\n", "6147 bytes = 2 records + 1 bytes"),
    "of the other version": (load_cifar10, HUNDRED, "6148 bytes = 2 records + 2 bytes"),
    "python version": (load_cifar10, b"\x80\x02}q\x01(U\x0bbatch_label", "19 bytes = 0 records + 19 bytes"),
    "label 10": (load_cifar10, b"\x0a" + TEN[1:], "label 10 at index 0; 1 of 2"),
    "100 truncated": (load_cifar100, HUNDRED[:-2], "6146 bytes = 1 records + 3072 bytes"),
    "100 trailing": (load_cifar100, HUNDRED + b"\0", "6149 bytes = 2 records + 1 bytes"),
    "coarse 20": (load_cifar100, b"\x14" + HUNDRED[1:], "label 20 at index 0"),
    "fine 100": (load_cifar100, HUNDRED[:-3073] + b"\x64" + HUNDRED[-3072:], "label 100 at index 1"),
}


@pytest.mark.parametrize(("load", "content", "measured"), BAD_CIFAR.values(), ids=BAD_CIFAR)
def test_cifar_refuses(tmp_path, load, content, measured):
    refused(measured, load, write(tmp_path / "batch.bin", content))


def test_cifar100_knows_two_kinds_of_labels(tmp_path):
    refused("'medium'", load_cifar100, write(tmp_path / "train.bin", HUNDRED), labels="medium")


SVHN_X = np.random.default_rng(5).integers(0, 256, size=(32, 32, 3, 4), dtype=np.uint8)
SVHN_Y = np.array([[10], [1], [9], [5]], dtype=np.uint8)


def save_mat(path, compressed: bool = True, **variables):
    from scipy.io import savemat

    savemat(path, variables, do_compression=compressed)
    return path


def test_svhn(tmp_path):
    data = load_svhn(save_mat(tmp_path / "train_32x32.mat", X=SVHN_X, y=SVHN_Y))
    assert is_dataset(data, (4, PIXELS), 10)
    assert (data.y.tolist(), data.name) == ([0, 1, 9, 5], "svhn")
    # Literally: feature (channel, row, column) of example i is X[row, column, channel, i].
    for i, channel, row, column in [(0, 0, 0, 1), (1, 2, 31, 0), (3, 1, 7, 11)]:
        assert data.X[i, 1024 * channel + 32 * row + column] == SVHN_X[row, column, channel, i] / 255


def test_svhn_labels_may_be_doubles(tmp_path):
    data = load_svhn(save_mat(tmp_path / "a.mat", X=SVHN_X, y=SVHN_Y.astype(float)))
    assert data.y.tolist() == [0, 1, 9, 5]


BAD_SVHN = {
    "no y": ({"X": SVHN_X}, "['X']"),
    "full numbers": ({"digitStruct": np.zeros((1, 2))}, "['digitStruct']"),
    "three axes": ({"X": SVHN_X[..., 0], "y": SVHN_Y}, "shape (32, 32, 3), uint8"),
    "transposed": ({"X": SVHN_X.T, "y": SVHN_Y}, "shape (4, 3, 32, 32), uint8"),
    "floats": ({"X": SVHN_X / 255, "y": SVHN_Y}, "float64"),
    "fewer labels": ({"X": SVHN_X, "y": SVHN_Y[:3]}, "shape (3, 1), uint8"),
    "labels in a row": ({"X": SVHN_X, "y": SVHN_Y.T}, "shape (1, 4), uint8"),
    "no images": ({"X": SVHN_X[..., :0], "y": SVHN_Y[:0]}, "shape (32, 32, 3, 0), uint8"),
    "complex labels": ({"X": SVHN_X, "y": SVHN_Y * 1j}, "class 6"),
    "labels as text": ({"X": SVHN_X, "y": "abcd"}, "class 4"),
    "a structure": ({"X": SVHN_X, "y": {"label": SVHN_Y}}, "class 2"),
    "label 0": ({"X": SVHN_X, "y": SVHN_Y - 1}, "label 0 at index 1; 1 of 4"),
    "label 11": ({"X": SVHN_X, "y": SVHN_Y + 1}, "label 11 at index 0; 1 of 4"),
    "label 1.5": ({"X": SVHN_X, "y": SVHN_Y / 2}, "float64"),
    "label NaN": ({"X": SVHN_X, "y": SVHN_Y * np.nan}, "float64"),
    "label infinite": ({"X": SVHN_X, "y": SVHN_Y * np.inf}, "label inf at index 0"),
}


@pytest.mark.parametrize(("variables", "measured"), BAD_SVHN.values(), ids=BAD_SVHN)
def test_svhn_refuses(tmp_path, variables, measured):
    refused(measured, load_svhn, save_mat(tmp_path / "train.mat", **variables))


@pytest.mark.parametrize("compressed", [True, False])
def test_svhn_refuses_damaged_files(tmp_path, compressed):
    whole = save_mat(tmp_path / "whole.mat", compressed, X=SVHN_X, y=SVHN_Y).read_bytes()
    damaged = {
        "empty": b"",
        "wrong magic": b"\x89PNG\r\n\x1a\n" + bytes(120),
        "header only, cut": whole[:100],
        "header only": whole[:128],
        "HDF5": whole[:124] + b"\x00\x02" + whole[126:],
        "truncated in X": whole[: len(whole) // 2],
        "truncated in y": whole[:-1],
        "big-endian": whole[:126] + b"MI" + whole[128:],
        "trailing byte": whole + b"\0",
        "trailing tag": whole + bytes(8),
        "trailing text": whole + b"and so on, and so on",
    }
    for name, content in damaged.items():
        with pytest.raises(BadInput) as caught:
            load_svhn(write(tmp_path / f"{name}.mat", content))
        assert caught.value.advice, name


def test_svhn_refuses_altered_codes_and_lengths(tmp_path):
    whole = save_mat(tmp_path / "whole.mat", compressed=False, X=SVHN_X, y=SVHN_Y).read_bytes()
    pixels = whole.index(SVHN_X.T.tobytes())
    assert whole[pixels - 8 : pixels] == np.array([2, SVHN_X.size], "<u4").tobytes()
    axes = whole.index(np.array(SVHN_X.shape, "<u4").tobytes())

    def altered(at: int, number: int):
        return write(tmp_path / "a.mat", whole[:at] + number.to_bytes(4, "little") + whole[at + 4 :])

    for code in (0, 8, 10, 11, 14, 15, 19, 116):
        refused(f"types [6, 5, 1, {code}]", load_svhn, altered(pixels - 8, code))
    refused("cannot reshape", load_svhn, altered(pixels - 8, 3))
    refused("are left", load_svhn, altered(pixels - 4, 2 * SVHN_X.size))
    refused("cannot reshape", load_svhn, altered(axes + 12, 5))
    refused("", load_svhn, altered(axes + 12, 2**32 - 1))
    refused("types [6, 6, 1, 2]", load_svhn, altered(axes - 8, 6))
    refused("an element of type 13", load_svhn, altered(128, 13))
    refused("class 4", load_svhn, altered(144, 4))  # text, whose letters may be stored as numbers


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_matlab_reader_reads_what_scipy_writes(tmp_path, compressed, dtype):
    a, longer_name = np.arange(-30, 30).reshape(3, 4, 5).astype(dtype), np.array([[7]], dtype)
    read = read_matlab(save_mat(tmp_path / "a.mat", compressed, a=a, longer_name=longer_name))
    assert sorted(read) == ["a", "longer_name"]
    assert read["a"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read["a"], a)
    np.testing.assert_array_equal(read["longer_name"], longer_name)


def test_digits():
    data = load_digits()
    assert is_dataset(data, (1797, 64), 10)
    assert (data.X.min(), data.X.max(), data.name) == (0.0, 1.0, "digits")
    np.testing.assert_array_equal(data.X * 16, np.round(data.X * 16))


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)  # Python's own way to say: cannot be imported
    with pytest.raises(BackendUnavailable, match=r"refimpl\[verify\]"):
        load_digits()


@given(
    N=st.integers(1, 60),
    classes=st.integers(2, 12),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_corrupt_labels_properties(N, classes, share, seed):
    y = np.random.default_rng(seed).integers(0, classes, size=N)
    before = y.copy()
    new, mask = corrupt_labels(y, share, classes, np.random.default_rng(seed))
    np.testing.assert_array_equal(y, before)  # the caller's labels are left alone
    assert (new.dtype, mask.dtype, new.shape, mask.shape) == (np.int64, bool, (N,), (N,))
    np.testing.assert_array_equal(new != y, mask)
    assert mask.sum() == round(share * N)
    assert new.min() >= 0
    assert new.max() < classes
    again = corrupt_labels(y, share, classes, np.random.default_rng(seed))
    np.testing.assert_array_equal(again, (new, mask))


def test_corrupt_labels_is_uniform_over_others_and_positions():
    classes, repeats, length = 5, 400, 50
    rng, y = np.random.default_rng(0), np.arange(50) % classes
    draws = [corrupt_labels(y, 0.5, classes, rng) for _ in range(repeats)]
    positions = np.sum([mask for _, mask in draws], axis=0)
    shifts = np.concatenate([((new - y) % classes)[mask] for new, mask in draws])
    counts = np.bincount(shifts, minlength=classes)
    # Hoeffding: a count leaves its mean by more than the bound with probability <= delta / tests.
    delta = 1e-6
    tests = length + classes - 1

    def bound(trials: int) -> float:
        return math.sqrt(trials * math.log(2 * tests / delta) / 2)

    assert np.abs(positions - repeats / 2).max() <= bound(repeats)
    assert counts[0] == 0
    assert np.abs(counts[1:] - shifts.size / (classes - 1)).max() <= bound(shifts.size)


BAD_LABELS = {
    "empty": (np.array([], int), 0.5, 2, "shape (0,)"),
    "one-hot": (np.eye(3, dtype=int), 0.5, 3, "shape (3, 3)"),
    "floats": (np.array([0.0, 1.0]), 0.5, 2, "float64"),
    "one class": (np.array([0]), 0.5, 1, "1 classes"),
    "too large": (np.array([0, 2]), 0.5, 2, "labels 0 … 2"),
    "negative": (np.array([-1, 1]), 0.5, 2, "labels -1 … 1"),
    "share > 1": (np.array([0, 1]), 30.0, 2, "30.0"),
    "share < 0": (np.array([0, 1]), -0.1, 2, "-0.1"),
    "share NaN": (np.array([0, 1]), math.nan, 2, "nan"),
}


@pytest.mark.parametrize(("y", "share", "classes", "measured"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_corrupt_labels_refuses(y, share, classes, measured):
    refused(measured, corrupt_labels, y, share, classes, np.random.default_rng(0))


def test_loaders_need_no_optional_package():
    code = "import refimpl.datasets, sys; print(*{'scipy', 'sklearn'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []

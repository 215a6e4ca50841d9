"""Real data: loaders for local files in their published formats (no pickle, no network), bundled digits, episodes."""

from refimpl.datasets.cifar import load_cifar10, load_cifar100
from refimpl.datasets.dataset import Dataset
from refimpl.datasets.digits import corrupt_labels, load_digits
from refimpl.datasets.episodes import Episode, EpisodeSampler, rotate_classes, split_classes
from refimpl.datasets.idx import load_idx
from refimpl.datasets.svhn import load_svhn
from refimpl.datasets.translation import Translation, translation

__all__ = [
    "Dataset",
    "Episode",
    "EpisodeSampler",
    "Translation",
    "corrupt_labels",
    "load_cifar10",
    "load_cifar100",
    "load_digits",
    "load_idx",
    "load_svhn",
    "rotate_classes",
    "split_classes",
    "translation",
]

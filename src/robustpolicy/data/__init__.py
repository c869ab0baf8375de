"""Data sets: digits (comes with the package), MNIST and CIFAR-10."""

from robustpolicy.data.batches import Joining, Split, epoch_batches, epoch_order, splits, to_float
from robustpolicy.data.datasets import Dataset, decode, get_source, load_dataset
from robustpolicy.data.fetch import fetch
from robustpolicy.data.files import cache_dir, find, search_path
from robustpolicy.data.sources import SOURCES, Source

__all__ = [
    "SOURCES",
    "Dataset",
    "Joining",
    "Source",
    "Split",
    "cache_dir",
    "decode",
    "epoch_batches",
    "epoch_order",
    "fetch",
    "find",
    "get_source",
    "load_dataset",
    "search_path",
    "splits",
    "to_float",
]

"""Data sets: digits (comes with the package), MNIST, CIFAR-10, and those of the user's own."""

from robustpolicy.data.arrays import Dataset, from_arrays
from robustpolicy.data.batches import Joining, Split, epoch_batches, epoch_order, splits, to_float
from robustpolicy.data.datasets import decode, get_source, load_dataset
from robustpolicy.data.description import describe, described_source, difference, is_own
from robustpolicy.data.fetch import fetch
from robustpolicy.data.files import cache_dir, find, search_path
from robustpolicy.data.own import check_name
from robustpolicy.data.sources import SOURCES, Source
from robustpolicy.data.unlabelled import load_unlabelled

__all__ = [
    "SOURCES",
    "Dataset",
    "Joining",
    "Source",
    "Split",
    "cache_dir",
    "check_name",
    "decode",
    "describe",
    "described_source",
    "difference",
    "epoch_batches",
    "epoch_order",
    "fetch",
    "find",
    "from_arrays",
    "get_source",
    "is_own",
    "load_dataset",
    "load_unlabelled",
    "search_path",
    "splits",
    "to_float",
]

"""Shares of a sweep: all jobs, each once, dependent ones together."""

import itertools
import math

import pytest

from robustpolicy import UserError
from robustpolicy.experiments.engines import Job, parse_shard, shard

GRID = [
    Job(f"seed{s}-{first}", math.sqrt) for s, first in itertools.product(range(3), range(7))
] + [
    Job(f"seed{s}-{first}-{second}", math.sqrt, needs=(f"seed{s}-{first}",))
    for s, first, second in itertools.product(range(3), range(7), range(7))
]


@pytest.mark.parametrize("count", [1, 2, 5, 8, 21, 30])
def test_all_jobs_each_once_and_prefixes_with_their_branches(count):
    shares = [shard(GRID, number + 1, count) for number in range(count)]
    names = [job.name for share in shares for job in share]
    assert sorted(names) == sorted(job.name for job in GRID)
    for share in shares:
        own = {job.name for job in share}
        assert all(own.issuperset(job.needs) for job in share)
        assert [job for job in GRID if job.name in own] == share
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 8  # one prefix and its seven branches


def test_jobs_that_share_two_prefixes_are_together():
    cells = [
        Job("a", math.sqrt),
        Job("b", math.sqrt),
        Job("of a", math.sqrt, needs=("a",)),
        Job("of both", math.sqrt, needs=("a", "b")),
        Job("of that", math.sqrt, needs=("of both",)),
        Job("alone", math.sqrt),
    ]
    shares = [[job.name for job in shard(cells, number, 2)] for number in (1, 2)]
    assert sorted(shares) == [["a", "b", "of a", "of both", "of that"], ["alone"]]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "0/0", "2", "a/b", "1/2/3", "-1/4", ""])
def test_bad_shares(text):
    with pytest.raises(UserError, match="--shard is"):
        parse_shard(text)


def test_shares():
    assert parse_shard("8/8") == (8, 8)

"""Engines: run jobs here, in several processes, or on a Ray cluster, behind one interface."""

from robustpolicy.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Engine": "job",
        "Job": "job",
        "LocalEngine": "local",
        "Outcome": "job",
        "RayEngine": "ray",
        "parse_shard": "shards",
        "shard": "shards",
    },
)

"""A Ray cluster: one task a job, on a cluster that runs already or on one of this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from robustpolicy.errors import UserError
from robustpolicy.experiments.engines.attempt import Attempt
from robustpolicy.experiments.engines.files import pack, stamp, unpack
from robustpolicy.experiments.engines.job import Job, Outcome
from robustpolicy.experiments.engines.local import check_workers
from robustpolicy.experiments.engines.ray_cluster import Cluster
from robustpolicy.experiments.engines.ray_task import Answer, Need, run_task
from robustpolicy.experiments.engines.schedule import run_jobs
from robustpolicy.training.pool import GRACE, one_line

#: How often a job is begun again because its node was lost, which is not held against it.
LOST_NODES = 10


class RayEngine:
    """Runs jobs as Ray tasks; see :class:`robustpolicy.experiments.engines.Engine`.

    Every node must have the same robustpolicy and torch, which each task checks. A job runs in
    the driver's working folder, made on its node if need be, with one thread.

    Args:
        address: ``host:port`` of a cluster, ``"auto"`` for the one that runs on this machine, or
            None for ``$RAY_ADDRESS``; without that, a cluster of this machine's own is started,
            which nobody else can reach, and ended afterwards. If Ray is connected already, that
            connection is used and kept.
        workers: jobs at a time; as many as the cluster has room for if None.

    Raises:
        UserError: Ray is not installed, or fewer than one worker.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self.cluster = Cluster(address, check_workers(workers))

    def run(
        self,
        jobs: Sequence[Job],
        *,
        tick: Callable[[], None] = lambda: None,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    ) -> list[Outcome]:
        """Run jobs."""
        return run_jobs(jobs, lambda: _Tasks(self.cluster, jobs), tick, on_outcome)


class _Tasks:
    """Tasks of a cluster as a backend."""

    def __init__(self, cluster: Cluster, jobs: Sequence[Job]) -> None:
        self._cluster = cluster
        self._jobs = {job.name: job for job in jobs}
        self._running: dict[Any, tuple[Job, Any]] = {}  # answer -> job, content of its result
        self._contents: dict[str, Any] = {}  # of results that some node did not see
        self._lost: dict[str, int] = {}
        self._driver = cluster.connect()
        try:
            for job in jobs:
                cluster.check_room(job)
        except UserError:
            cluster.close()
            raise

    @property
    def free(self) -> int:
        return (self._cluster.workers or 1_000_000) - len(self._running)

    def start(self, job: Job) -> None:
        import ray

        task = ray.remote(run_task).options(
            name=job.name,
            num_cpus=job.cpus,
            num_gpus=job.gpus,
            num_returns=2,
            max_retries=0,  # the same retries as in other engines
        )
        call = ray.cloudpickle.dumps((job.function, job.arguments))
        answer, content = task.remote(call, job.result, self._needs(job), self._driver)
        self._running[answer] = job, content

    def _needs(self, job: Job) -> list[Need]:
        paths = {need: self._jobs[need].result for need in job.needs}
        return [
            Need(name, path, stamp(path), self._contents.get(name))
            for name, path in paths.items()
            if path is not None
        ]

    def wait(self, timeout: float) -> list[tuple[Job, Attempt]]:
        import ray

        running = list(self._running)
        ray.wait(running, timeout=timeout)
        ready, _ = ray.wait(running, num_returns=len(running), timeout=0)
        ended = []
        for answer in ready:
            job, content = self._running.pop(answer)
            attempt = self._read(job, answer, content)
            if attempt is None:
                self.start(job)
            else:
                ended.append((job, attempt))
        return ended

    def _read(self, job: Job, reference: Any, content: Any) -> Attempt | None:
        """What came of a task; None if the job is to be begun again."""
        import ray

        try:
            answer: Answer = ray.get(reference)
            for name in answer.missing:
                path = self._jobs[name].result
                if path is not None and name not in self._contents:
                    self._contents[name] = ray.put(pack(path))
            if job.result is not None and stamp(job.result) != answer.stamp:
                packed = ray.get(content)
                if packed is not None:
                    unpack(packed, job.result)
            return answer.attempt
        except (ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError):
            self._lost[job.name] = self._lost.get(job.name, 0) + 1
            if self._lost[job.name] > LOST_NODES:
                return Attempt(error=f"its node was lost, {self._lost[job.name]} times")
            return None
        except ray.exceptions.WorkerCrashedError:
            return Attempt(error="its process was killed or crashed")
        except ray.exceptions.RayTaskError as error:
            return Attempt(error=one_line(error.cause), traceback=str(error))
        except (ray.exceptions.RayError, UserError) as error:
            return Attempt(error=one_line(error))

    def stop(self) -> None:
        import ray

        try:
            for answer in self._running:
                ray.cancel(answer, force=False)  # a training writes its checkpoint, then ends
            left = self._ended(GRACE)
            for answer in left:
                ray.cancel(answer, force=True)
            self._ended(5)
        finally:
            self._cluster.close()

    def _ended(self, timeout: float) -> list[Any]:
        """Wait for the running tasks; those that have not ended."""
        import ray

        running = list(self._running)
        return ray.wait(running, num_returns=len(running), timeout=timeout)[1] if running else []

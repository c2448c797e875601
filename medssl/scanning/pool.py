"""Worker processes that may die: a decoder that crashes costs its file, not the scan."""

import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Generic, TypeVar

from medssl.errors import DataError

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


class CrashProofPool(Generic[JobT, ResultT]):
    """Applies a function to jobs in fresh processes, in any order.

    When a process dies, everything that was in the hands of the pool and not finished is done
    again, one job at a time, in a process of its own; a job with which that dies too is given to
    `on_crash`.
    """

    def __init__(
        self,
        work: Callable[[list[JobT]], list[ResultT]],
        on_crash: Callable[[JobT, float], ResultT],
        *,
        workers: int,
        chunk: int,
        initializer: Callable[[], None] | None = None,
    ) -> None:
        """Prepare; processes start with `run`.

        Args:
            work: Picklable; gets a chunk of jobs.
            on_crash: Makes the result of a job that killed its process, from the job and the
                seconds that it lasted, alone in a process.
            workers: Processes.
            chunk: Jobs per call of `work`.
            initializer: Run first in every process.
        """
        self._work = work
        self._on_crash = on_crash
        self._workers = workers
        self._chunk = chunk
        self._initializer = initializer

    def run(self, jobs: Sequence[JobT]) -> Generator[ResultT]:
        """Give the result of every job as it is ready. Closing the iterator ends the processes."""
        starts = range(0, len(jobs), self._chunk)
        waiting = deque(list(jobs[start : start + self._chunk]) for start in starts)
        while waiting:
            unfinished: list[list[JobT]] = []
            yield from self._until_broken(waiting, unfinished)
            for chunk in unfinished:
                yield from self._one_by_one(chunk)

    def _until_broken(
        self, waiting: deque[list[JobT]], unfinished: list[list[JobT]]
    ) -> Iterator[ResultT]:
        running: dict[Future[list[ResultT]], list[JobT]] = {}
        pool = self._start(self._workers)
        try:
            while waiting or running:
                while waiting and len(running) < 2 * self._workers:
                    running[self._submit(pool, waiting[0])] = waiting[0]
                    waiting.popleft()
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    results = future.result()
                    del running[future]
                    yield from results
        except BrokenProcessPool:
            for future, chunk in running.items():
                if future.done() and future.exception() is None:
                    yield from future.result()
                else:
                    unfinished.append(chunk)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _one_by_one(self, chunk: list[JobT]) -> Iterator[ResultT]:
        pool = self._start_one()
        try:
            for job in chunk:
                began = time.monotonic()
                try:
                    yield from self._submit(pool, [job]).result()
                except BrokenProcessPool:
                    pool.shutdown(wait=False)
                    pool = self._start_one()
                    yield self._on_crash(job, time.monotonic() - began)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _start_one(self) -> ProcessPoolExecutor:
        """Start a process and see that it lives, so that no job is blamed for its death.

        Raises:
            DataError: It does not.
        """
        pool = self._start(1)
        try:
            with _ctrl_c_waits():
                future = pool.submit(_nothing)
            future.result()
        except BrokenProcessPool as error:
            raise DataError(
                "no worker process lives long enough to read a file; give it more memory"
                " (memory_gb), and in a script of your own call the scan below"
                " if __name__ == '__main__'"
            ) from error
        return pool

    def _submit(self, pool: ProcessPoolExecutor, jobs: list[JobT]) -> Future[list[ResultT]]:
        """Hand over `jobs`; a process that starts for them inherits that Ctrl-C is not for it."""
        with _ctrl_c_waits():
            return pool.submit(self._work, jobs)

    def _start(self, workers: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(workers, get_context("spawn"), self._initializer)


def _nothing() -> None:
    pass


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Hold back Ctrl-C during the block; it is not lost, only late."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows; there the initializer has to do
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

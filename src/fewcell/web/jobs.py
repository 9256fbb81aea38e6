"""Work in the background: one job at a time, each in a process of its own, so that the page stays quick."""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from itertools import count
from threading import Condition, Thread
from typing import Any

from fewcell.errors import FewcellError
from fewcell.web.refusal import Refused

__all__ = ["Job", "JobQueue"]

WAITING_JOBS = 500
REMEMBERED_JOBS = 50  # that have ended


@dataclass
class Job:
    """A piece of work and how far it is.

    state: waiting, working, done, failed or stopped. share: of the stage that is done, in [0, 1]; None: not known.
    """

    number: int
    kind: str
    image: str
    model: str
    state: str = "waiting"
    stage: str = ""
    share: float | None = None
    seconds_left: float | None = None
    error: str = ""
    process: subprocess.Popen[Any] | None = field(default=None, repr=False)

    @property
    def is_pending(self) -> bool:
        return self.state in ("waiting", "working")

    def shown(self) -> dict[str, Any]:
        """What the page is told of it."""
        return {of.name: getattr(self, of.name) for of in fields(self) if of.name != "process"}

    def wait_for(self, command: Sequence[str], **how: Any) -> int:
        """Run a process to its end; its exit code. how: see `subprocess.Popen`.

        Nothing is written to its input, which ends when this process does, however that comes about.
        """
        with self._begun(command, stdin=subprocess.PIPE, **how) as process:
            return process.wait()

    def listen_to(self, command: Sequence[str], task: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Run a process that is told a task, a line of JSON, and says how far it is, a JSON object a line.

        Raises FewcellError if it ends badly and was not stopped.
        """
        pipe = subprocess.PIPE
        with self._begun(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(task) + "\n")
                process.stdin.flush()
            except BrokenPipeError:  # it has ended already; closing would try again
                with suppress(BrokenPipeError):
                    process.stdin.close()
            said = {}
            for line in process.stdout:
                said = json.loads(line)
                yield said
        if process.returncode and self.state != "stopped" and "error" not in said:
            raise FewcellError(
                f"The work ended early (exit code {process.returncode}): there may be too little memory."
            )

    def _begun(self, command: Sequence[str], **how: Any) -> subprocess.Popen[Any]:
        self.process = subprocess.Popen(command, **how)
        if self.state == "stopped":  # while it began
            self.process.terminate()
        return self.process


class JobQueue:
    """Does jobs one after the other, in the order in which they were given."""

    def __init__(self) -> None:
        self._jobs: list[tuple[Job, Callable[[Job], None]]] = []
        self._numbers, self._changed, self._is_closed = count(1), Condition(), False
        self._thread = Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def add(self, kind: str, image: str, model: str, do: Callable[[Job], None]) -> Job:
        """Put work into the queue. Raises Refused if the same is there already, or if the queue is full."""
        with self._changed:
            pending = [job for job, _ in self._jobs if job.is_pending]
            if any((job.kind, job.image, job.model) == (kind, image, model) for job in pending):
                raise Refused(409, "This is being done already.")
            if len(pending) >= WAITING_JOBS:
                raise Refused(429, f"{len(pending)} jobs are waiting. Wait until some are done.")
            job = Job(next(self._numbers), kind, image, model)
            forgotten = [job for job, _ in self._jobs if job not in pending][:-REMEMBERED_JOBS]
            self._jobs = [entry for entry in self._jobs if entry[0] not in forgotten] + [(job, do)]
            self._changed.notify_all()
            return job

    def all(self) -> list[Job]:
        return [job for job, _ in self._jobs]

    def stop(self, number: int) -> None:
        """Stop a job, or take it out of the queue. Raises Refused if there is none that could be stopped."""
        with self._changed:
            for job, _ in self._jobs:
                if job.number == number and job.is_pending:
                    _stop(job)
                    return
        raise Refused(404, f"There is no job {number} that could be stopped.")

    def close(self) -> None:
        """Stop everything; what was segmented so far is kept, and goes on when it is asked for again."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            for job, _ in self._jobs:
                if job.is_pending:
                    _stop(job)
        self._thread.join(timeout=10)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._next())
                if self._is_closed:
                    return
                found = self._next()
                assert found is not None
                job, do = found
                job.state = "working"
            try:
                do(job)
            except FewcellError as error:
                self._end(job, "failed", str(error))
            except Exception as error:  # a fault of ours in one job must not end the queue
                self._end(job, "failed", f"Unexpected {type(error).__name__}: {error}. Please report this.")
            else:
                self._end(job, "done")

    def _end(self, job: Job, state: str, error: str = "") -> None:
        with self._changed:
            if job.state != "stopped":
                job.state, job.error = state, error

    def _next(self) -> tuple[Job, Callable[[Job], None]] | None:
        return next((entry for entry in self._jobs if entry[0].state == "waiting"), None)


def _stop(job: Job) -> None:
    job.state = "stopped"
    if job.process is not None:
        job.process.terminate()

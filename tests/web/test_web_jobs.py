"""Work in the background: in order, one at a time, failing alone, stopped when asked."""

import sys
import threading
import time

import pytest

from fewcell.errors import ReadError
from fewcell.web.jobs import JobQueue
from fewcell.web.refusal import Refused


@pytest.fixture
def queue():
    queue = JobQueue()
    yield queue
    queue.close()


def ended(job, timeout_s=20):
    end = time.monotonic() + timeout_s
    while job.state in ("waiting", "working") and time.monotonic() < end:
        time.sleep(0.01)
    return job.state


def test_jobs_are_done_one_at_a_time_in_their_order(queue):
    order, active = [], []

    def do(job):
        active.append(job.number)
        order.append((job.number, len(active)))
        time.sleep(0.02)
        active.pop()

    jobs = [queue.add("segment", f"{i}.png", "default", do) for i in range(5)]
    assert [ended(job) for job in jobs] == ["done"] * 5
    assert order == [(i, 1) for i in range(1, 6)]


def test_a_job_that_fails_says_why_and_stops_no_other(queue):
    def fail(job):
        raise ReadError("x.png: is cut short.")

    def break_down(job):
        raise ZeroDivisionError("by zero")

    jobs = [
        queue.add("segment", name, "m", do) for name, do in (("x", fail), ("y", break_down), ("z", lambda job: None))
    ]
    assert [ended(job) for job in jobs] == ["failed", "failed", "done"]
    assert jobs[0].error == "x.png: is cut short."
    assert "ZeroDivisionError" in jobs[1].error


def test_no_waiting_job_is_forgotten_for_others_that_were_stopped(queue, monkeypatch):
    monkeypatch.setattr("fewcell.web.jobs.REMEMBERED_JOBS", 3)
    go = threading.Event()
    jobs = [queue.add("segment", f"{i}.png", "m", lambda job: go.wait(10)) for i in range(12)]
    for job in jobs[6:]:
        queue.stop(job.number)
    jobs.append(queue.add("segment", "last.png", "m", lambda job: None))
    assert [job.number for job in queue.all()] == [1, 2, 3, 4, 5, 6, 10, 11, 12, 13]
    go.set()
    assert [ended(job) for job in [*jobs[:6], jobs[-1]]] == 7 * ["done"]


def test_the_same_is_not_queued_twice(queue):
    go = threading.Event()
    first = queue.add("segment", "x.png", "m", lambda job: go.wait(10))
    with pytest.raises(Refused, match="already"):
        queue.add("segment", "x.png", "m", lambda job: None)
    other = queue.add("segment", "x.png", "other", lambda job: None)
    go.set()
    assert [ended(first), ended(other)] == ["done", "done"]
    assert ended(queue.add("segment", "x.png", "m", lambda job: None)) == "done"


def run(code):
    return lambda job: [None for _ in job.listen_to([sys.executable, "-c", code], {"n": 3})]


def test_a_process_is_told_its_task_and_heard(queue):
    heard = []
    code = "import json,sys\nfor i in range(json.loads(sys.stdin.readline())['n']): print(json.dumps({'i': i}))"
    job = queue.add(
        "segment", "x", "m", lambda job: heard.extend(job.listen_to([sys.executable, "-c", code], {"n": 3}))
    )
    assert ended(job) == "done"
    assert heard == [{"i": 0}, {"i": 1}, {"i": 2}]


def test_a_process_that_dies_is_a_failure(queue):
    job = queue.add("segment", "x", "m", run("import os; os._exit(9)"))
    assert ended(job) == "failed"
    assert "exit code 9" in job.error


def test_a_process_is_stopped(queue):
    job = queue.add("segment", "x", "m", run("import time; time.sleep(60)"))
    waiting = queue.add("segment", "y", "m", run("pass"))
    while job.process is None:
        time.sleep(0.01)
    queue.stop(waiting.number)
    queue.stop(job.number)
    assert job.state == waiting.state == "stopped"
    assert job.process.wait(10) != 0
    after = queue.add("segment", "z", "m", lambda job: None)
    assert ended(after) == "done"
    assert [job.state, waiting.process] == ["stopped", None]
    for number in (job.number, 99):
        with pytest.raises(Refused):
            queue.stop(number)


def test_closing_ends_what_runs():
    queue = JobQueue()
    job = queue.add("segment", "x", "m", run("import time; time.sleep(60)"))
    while job.process is None:
        time.sleep(0.01)
    queue.close()
    assert job.process.wait(10) != 0


def test_closing_stops_what_waits_when_a_job_ends_just_then(queue, monkeypatch):
    go, stop = threading.Event(), queue.stop

    def do(job):
        while job.state == "working" and not go.is_set():
            time.sleep(0.01)

    first, last = (queue.add("segment", name, "m", do) for name in ("x", "y"))

    def stop_late(number):
        go.set()
        ended(first)
        stop(number)

    while first.state == "waiting":
        time.sleep(0.01)
    monkeypatch.setattr(queue, "stop", stop_late)
    queue.close()
    assert [first.state, last.state] == ["stopped", "stopped"]
    assert not queue._thread.is_alive()

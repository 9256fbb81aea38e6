"""Processes end with the one that began them, were it killed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

CHILD = """
import os, pathlib, sys, time
from fewcell.family import end_with_parent
end_with_parent()
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(300)
"""
BY_JOB = """
import sys
from fewcell.web.jobs import Job
Job(1, "teach", "", "m").wait_for([sys.executable, "-c", sys.argv[1], sys.argv[2]])
"""
BY_RUN = """
import subprocess, sys
from fewcell.family import input_while_alive
with input_while_alive() as theirs:
    subprocess.run([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdin=theirs)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc")
@pytest.mark.parametrize("parent", [BY_JOB, BY_RUN])
def test_a_process_ends_with_the_one_that_began_it(tmp_path, parent):
    begun = tmp_path / "begun"
    process = subprocess.Popen([sys.executable, "-c", parent, CHILD, str(begun)])
    wait_until(lambda: begun.exists() and begun.read_text())
    assert not is_gone(int(begun.read_text()))
    process.kill()
    process.wait()
    wait_until(lambda: is_gone(int(begun.read_text())))


def test_a_process_that_ends_first_is_none_of_its_business():
    code = "from fewcell.family import end_with_parent; end_with_parent(); print('done')"
    held = subprocess.run([sys.executable, "-c", BY_RUN, code, ""], capture_output=True, text=True, check=True)
    assert held.stdout == "done\n"


def test_without_a_pipe_nothing_happens():
    code = "from fewcell.family import end_with_parent; end_with_parent(); print('done')"
    for held in (subprocess.DEVNULL, None):
        done = subprocess.run([sys.executable, "-c", code], stdin=held, capture_output=True, text=True, check=True)
        assert done.stdout == "done\n"


def wait_until(is_true, timeout_s=30):
    end = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_gone(number):
    """Whether a process has ended; a dead one that nobody has waited for counts as ended."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True

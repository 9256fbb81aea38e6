"""Things that are kept until others take their place."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fewcell.kept import Kept


def test_what_was_used_last_is_kept():
    made, kept = [], Kept(lambda thing: thing, 10)
    for key in (4, 5, 4, 6, 4, 5, 100, 100):  # each as large as its key
        assert kept.get(key, lambda key=key: made.append(key) or key) == key
    assert made == [4, 5, 6, 5, 100]  # the last one stays, however large it is
    kept.clear()
    for key in (100, 4, 5):
        kept.get(key, lambda key=key: made.append(key) or key)
    assert made[5:] == [100, 4, 5]


def test_what_several_threads_want_at_once_is_made_once():
    """A slide stored in one piece may be more than fits into memory twice."""
    kept, made, began = Kept(lambda thing: 1, 2), [], threading.Barrier(10)

    def make():
        made.append(1)
        time.sleep(0.05)
        return object()

    def get(_):
        began.wait()
        return kept.get("a", make)

    with ThreadPoolExecutor(10) as pool:
        assert len({id(thing) for thing in pool.map(get, range(10))}) == 1
    assert made == [1]


def test_what_could_not_be_made_can_be_asked_for_again():
    kept, tries = Kept(lambda thing: 1, 2), []

    def fail():
        tries.append(1)
        raise OSError("damaged")

    for _ in range(2):
        with pytest.raises(OSError, match="damaged"):
            kept.get(1, fail)
    assert tries == [1, 1]
    assert kept.get(1, lambda: "whole") == "whole"

"""Fewer synthetic images where a model is finished or taught: all of them take seconds, in each of many tests."""

from collections.abc import Iterator

import pytest

from fewcell.training import finish, forgetting, memory


@pytest.fixture
def all_drawn() -> None:
    """For tests of what these images are or do: as many as there are in use."""


@pytest.fixture(autouse=True)
def few_drawn(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:  # its own: a test may undo what it changed
        if "all_drawn" not in request.fixturenames:
            patch.setattr(finish, "EMPTY_IMAGES", 10)
            patch.setattr(forgetting, "FIELDS", 12)
            patch.setattr(memory, "COLLAGES", 12)
        yield

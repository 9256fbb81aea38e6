"""What requests may say, checked before anything is done with it."""

import re
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError
from starlette.requests import Request

from fewcell.config import Strict
from fewcell.web.refusal import Refused

__all__ = ["Edit", "SegmentTask", "TeachTask", "Undo", "body_of", "query_of"]

MOST_BODY_BYTES = 1_000_000
Place = Annotated[float, Field(ge=-1e7, le=1e7)]
CellNumber = Annotated[int, Field(ge=1, lt=2**31)]
Channel = Annotated[int, Field(ge=0, lt=1000)]


class SegmentTask(Strict):
    """With which model, and how. diameter_px: of the cells, estimated if not given. channels: seen by the model."""

    model: str
    diameter_px: Annotated[float, Field(gt=0, le=10_000)] | None = None
    channels: Annotated[list[Channel], Field(min_length=1, max_length=3)] | None = None


class Edit(Strict):
    """A correction, as `Cells.correct` takes it. points: y and x."""

    made: Annotated[str, Field(max_length=40)] | None = None
    kind: Literal["delete", "merge", "split", "draw", "region", "confirm"]
    cells: Annotated[list[CellNumber], Field(max_length=200)] = []
    points: Annotated[list[tuple[Place, Place]], Field(max_length=5000)] = []


class Undo(Strict):
    """Of which cells the latest correction is taken back, see `Cells.check_made`."""

    made: Annotated[str, Field(max_length=40)] | None = None


class TeachTask(Strict):
    """Which model to teach, for how long (steps win over minutes), and whether it may forget other images."""

    model: str
    minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 4.0
    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    may_forget: bool = False

    def flags(self) -> list[str]:
        """How, as `fewcell train` is told."""
        how_long = ["--steps", str(self.steps)] if self.steps else ["--minutes", f"{self.minutes:g}"]
        return [*how_long, "--may-forget"] if self.may_forget else how_long


Asked = TypeVar("Asked", bound=Strict)


async def body_of(request: Request, kind: type[Asked]) -> Asked:
    """What the body of a request says, JSON. Raises Refused for what is too long or not understood."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY_BYTES:
            raise Refused(413, f"The request is longer than {MOST_BODY_BYTES:,} bytes.")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _not_understood(error) from None


def query_of(request: Request, kind: type[Asked]) -> Asked:
    """What stands behind the question mark of an address. Raises Refused for what is not understood."""
    try:
        return kind.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise _not_understood(error) from None


def _not_understood(error: ValidationError) -> Refused:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the request"
    return Refused(422, f"{re.sub(r'[^ -~]', '?', where)[:80]} is not understood: {first['msg'][:200]}.")

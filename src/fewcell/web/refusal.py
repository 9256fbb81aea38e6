"""What the page says when it does not do what was asked."""

from fewcell.errors import FewcellError

__all__ = ["Refused"]


class Refused(FewcellError):
    """A request that is not carried out. status: the HTTP status that tells programs why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

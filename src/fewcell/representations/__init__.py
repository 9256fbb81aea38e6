"""Representations: from labels to channels and back. A variant is one file and one line here."""

from fewcell.errors import ConfigError, nearest
from fewcell.representations.base import Channel, Representation
from fewcell.representations.boundary import Boundary

__all__ = ["REPRESENTATIONS", "Boundary", "Channel", "Representation", "make_representation"]

REPRESENTATIONS: dict[str, type[Representation]] = {
    "boundary": Boundary,
}


def make_representation(name: str, settings: dict | None = None) -> Representation:
    """Build the representation called `name`. settings: its own fields, for example {"grow_px": 2}.

    Raises ConfigError for an unknown name or setting.
    """
    if name not in REPRESENTATIONS:
        raise ConfigError(f"There is no representation {name!r}; {nearest(name, REPRESENTATIONS)}")
    try:
        return REPRESENTATIONS[name](**(settings or {}))
    except TypeError as error:
        raise ConfigError(f"The representation {name!r} does not take these settings: {settings} ({error}).") from None

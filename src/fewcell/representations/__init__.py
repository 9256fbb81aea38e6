"""Representations: from labels to channels and back. A variant is one file and one line here."""

from dataclasses import fields

from fewcell.errors import checked_settings, pick
from fewcell.representations.affinities import Affinities
from fewcell.representations.base import Channel, Representation
from fewcell.representations.boundary import Boundary
from fewcell.representations.canopy import Canopy
from fewcell.representations.flows import Flows
from fewcell.representations.omni import Omni
from fewcell.representations.stars import Stars
from fewcell.representations.trails import Trails
from fewcell.representations.watershed import Watershed

__all__ = [
    "REPRESENTATIONS",
    "Boundary",
    "Canopy",
    "Channel",
    "Flows",
    "Omni",
    "Representation",
    "Trails",
    "make_representation",
]

REPRESENTATIONS: dict[str, type[Representation]] = {
    "boundary": Boundary,
    "flows": Flows,
    "stars": Stars,
    "watershed": Watershed,
    "omni": Omni,
    "affinities": Affinities,
    "canopy": Canopy,
    "trails": Trails,
}


def make_representation(name: str, settings: dict | None = None) -> Representation:
    """Build the representation called `name`. settings: its own fields, for example {"grow_px": 2}.

    Raises ConfigError for an unknown name or setting.
    """
    variant = pick("representation", name, REPRESENTATIONS)
    known = [field.name for field in fields(variant)]  # pyright: ignore[reportArgumentType]
    return variant(**checked_settings("representation", name, settings, known))

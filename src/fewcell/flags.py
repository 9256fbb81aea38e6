"""What people write after a flag, understood. What is not raises ConfigError, with an example of what would be."""

import re

from fewcell.errors import ConfigError

__all__ = ["read_channels", "read_diameter", "read_notes", "read_plane", "read_shard"]


def read_shard(text: str) -> tuple[int, int]:
    """2/8 -> (2, 8)."""
    try:
        number, count = (int(part) for part in text.split("/"))
        if count < 1:
            raise ValueError(text)
    except ValueError:
        raise ConfigError(f"--shard {text!r} is not understood. Write the second of eight as 2/8.") from None
    return number, count


def read_channels(text: str | None) -> tuple[int, ...] | None:
    """2,0 -> (2, 0)."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--channels {text!r} is not understood. Write numbers from 0, such as 0 or 2,0.") from None


def read_diameter(text: str | None) -> tuple[float | None, bool]:
    """30 or 30px -> (30.0, False); 12um -> (12.0, True), in micrometres."""
    if text is None:
        return None, False
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(px|um|µm|μm)?\s*", text)
    if not found or float(found[1]) <= 0:
        raise ConfigError(f"--diameter {text!r} is not understood. Write pixels as 30, or micrometres as 12um.")
    return float(found[1]), found[2] not in (None, "px")


def read_plane(text: str | None) -> dict[str, int] | None:
    """t=0,z=3 -> {"t": 0, "z": 3}."""
    if text is None:
        return None
    try:
        return {axis.strip().lower(): int(index) for axis, index in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise ConfigError(f"--plane {text!r} is not understood. Write axis=number, such as z=3 or t=0,z=3.") from None


def read_notes(texts: list[str]) -> dict[str, str]:
    """name=value, several times -> a dictionary."""
    notes = {name: value for name, _, value in (text.partition("=") for text in texts)}
    if "" in notes or "" in notes.values():
        raise ConfigError(f"--note {texts} is not understood. Write name=value, such as model=default.")
    return notes

"""What a TIFF says about itself: the size of its pixels and the names of its channels."""

import math
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import tifffile

__all__ = ["square_pixel_um", "tiff_channel_names", "tiff_pixel_size_um", "um_per"]

_UM_PER_UNIT = {
    "m": 1e6, "cm": 1e4, "mm": 1e3, "um": 1.0, "micron": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "å": 1e-4, "inch": 25_400.0, "in": 25_400.0,
    "meter": 1e6, "centimeter": 1e4, "millimeter": 1e3, "nanometer": 1e-3, "angstrom": 1e-4,
}  # fmt: skip

# Coarser pixels are no microscope's: 1270 dots per inch and fewer (72, 96, 150, 300) are for printers.
_COARSEST_UM = 20.0
_FINEST_UM = 1e-5  # a tenth of an atom's width: whoever writes less has mistaken the unit
_PRINTER_DPI = (2400, 4800, 9600)


def tiff_pixel_size_um(tif: tifffile.TiffFile, page: Any) -> float | None:
    """Micrometres per pixel; None where the file does not say. See `Image` for what counts as saying."""
    if tif.is_ome:
        pixels = _ome_pixels(tif)
        x_um, y_um = (
            _number(pixels.get(f"PhysicalSize{a}")) * um_per(pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "XY"
        )
        return square_pixel_um(x_um, y_um)
    if tif.is_svs:
        found = re.search(r"MPP\s*=\s*([\d.]+)", page.description)
        um = _number(found[1]) if found else math.nan
        return square_pixel_um(um, um)
    tags = [page.tags.valueof(name) for name in ("XResolution", "YResolution")]
    if any(not isinstance(tag, tuple) or len(tag) != 2 or 0 in tag for tag in tags):
        return None
    if tif.is_imagej:
        unit = um_per(str((tif.imagej_metadata or {}).get("unit", "")))
    else:
        # Without the tag, the unit is the inch: so the TIFF standard.
        unit = {2: um_per("inch"), 3: um_per("cm")}.get(page.tags.valueof("ResolutionUnit", 2), math.nan)
    x_um, y_um = (unit * below / above for above, below in tags)
    is_for_printers = unit >= um_per("cm") and (
        x_um > _COARSEST_UM or any(abs(25_400 / x_um - dpi) < 1 for dpi in _PRINTER_DPI)
    )
    return None if is_for_printers else square_pixel_um(x_um, y_um)


def tiff_channel_names(tif: tifffile.TiffFile) -> tuple[str, ...]:
    """The names that the file gives its channels; none where it gives none, or not to all."""
    if tif.is_ome:
        names = [c.get("Name") for c in _ome_pixels(tif).findall("{*}Channel")]
        return tuple(n for n in names if n) if all(names) else ()
    return tuple(map(str, (tif.imagej_metadata or {}).get("Labels", ()) if tif.is_imagej else ()))


def um_per(unit: str | None) -> float:
    """Micrometres in a unit, as programs spell it; not-a-number for pixels, unknown and missing units."""
    name = (unit or "").replace("\\u00B5", "µ").replace("μ", "u").replace("µ", "u").strip().lower()
    return _UM_PER_UNIT.get(name, _UM_PER_UNIT.get(name.removesuffix("s"), math.nan))


def square_pixel_um(x_um: float, y_um: float) -> float | None:
    """One size for both directions; None where they differ by more than 1 %, or are no sizes of pixels."""
    if not all(_FINEST_UM <= um < math.inf for um in (x_um, y_um)) or abs(x_um - y_um) > 0.01 * min(x_um, y_um):
        return None
    return (x_um + y_um) / 2


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _ome_pixels(tif: tifffile.TiffFile) -> ElementTree.Element:
    """The first image in the OME description; an empty one where the description does not parse."""
    try:
        found = ElementTree.fromstring(tif.ome_metadata or "").find(".//{*}Image/{*}Pixels")
    except ElementTree.ParseError:
        found = None
    return ElementTree.Element("Pixels") if found is None else found

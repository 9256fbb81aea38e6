"""Hand-overs: scripts, plugins and packages with which other programs use fewcell.

Files of cells for other programs are exports, see fewcell.slides. `napari.yaml` names what napari loads from here.
"""

from fewcell.handover.bioimage import package_model
from fewcell.handover.qupath import write_qupath_script

__all__ = ["package_model", "write_qupath_script"]

"""flows: each pixel of a cell says in which direction the cell's centre lies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from fewcell.representations.base import collect_instances
from fewcell.representations.flow_field import CELL, FLOW, N_CLIMBS, FlowField, without_false_flows
from fewcell.types import FloatArray, Instances

__all__ = ["Flows"]


@final
@dataclass(frozen=True)
class Flows(FlowField):
    """Flows to the centre of each cell, and the probability of a cell: the representation of Cellpose.

    Decoding follows the predicted flow from every pixel that is likely in a cell, in steps of at most 1 px; pixels that
    end in the same place are a cell. Cells whose flow is not the one that their shape would have are dropped. The
    first-guess score is the mean cell probability.

    Where the source cuts out sinks at least so high, here each place where more pixels end than within `sink_px` of it
    is a sink.

    cell_threshold: probability in (0, 1) above which a pixel is in a cell.
    flow_error: cells with a greater mean squared flow error are dropped. 0.4 is usual; 6 keeps all.
    n_steps: how many steps a pixel goes at most: half the length in px of the greatest cell, or more. Pixels that have
        arrived stop, so a high number costs time only in great cells; but `reach_px` grows with it.
    sink_px: places nearer than this, along each axis, are not told apart as sinks.
    min_area_px: smaller cells are dropped.

    Source: Cellpose (Stringer et al., 2021, Nature Methods 18, 100-106).
    """

    cell_threshold: float = 0.5
    flow_error: float = 0.4
    n_steps: int = 220
    sink_px: int = 3
    min_area_px: int = 6

    tuned: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "cell_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
        "flow_error": (0.4, 0.6, 0.9, 6.0),
    }
    contract_iou: ClassVar[float] = 0.99

    @property
    def reach_px(self) -> int:
        """The sink is that near to the cell; what ends around it comes from at most n_steps away."""
        # From the cell to its sink; on to the places whose end points count there; on to where those come from (they
        # are rounded to a pixel, and their flow lies between two).
        return N_CLIMBS * self.sink_px + (N_CLIMBS + 1) * self.sink_px + 1 + self.n_steps + 2

    def decode(self, prediction: FloatArray) -> Instances:
        """Follow the flow, put pixels together by where they end, check the flow of each cell; see the class."""
        from fewcell.representations.flow_kernels import follow, split_by_sink

        ends = follow(prediction[FLOW], prediction[CELL] > self.cell_threshold, self.n_steps, False)
        labels = without_false_flows(split_by_sink(ends, self.sink_px, N_CLIMBS), prediction[FLOW], self.flow_error)
        return collect_instances(labels, prediction[CELL], self.min_area_px)

"""trails: each pixel leads to one a little downstream on the flow to its cell's centre; all that meet are a cell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from fewcell.representations.base import collect_instances
from fewcell.representations.flow_field import CELL, FLOW, N_CLIMBS, FlowField, without_false_flows
from fewcell.types import FloatArray, Instances

__all__ = ["Trails"]


@final
@dataclass(frozen=True)
class Trails(FlowField):
    """Flows to the centre of each cell, and the probability of a cell, as Cellpose predicts them, read by jumps.

    Decoding follows the flow for `hop_px` only, which gives each pixel the pixel that it leads to; then from pixel to
    pixel in jumps, in one pass that never goes a way twice, to where the trails end. Ends that lie close together are
    one cell; cells whose flow is not the one that their shape would have are dropped. So a trail may be as long as a
    cell is, at a cost that does not grow with it, and which pixel a pixel leads to depends on nothing farther than
    hop_px + 1: it is the same on a tile and on the whole. The first-guess score is the mean cell probability.

    cell_threshold: probability in (0, 1) above which a pixel is in a cell.
    flow_error: cells with a greater mean squared flow error are dropped; 6 keeps all.
    hop_px: how far the flow is followed before the next jump.
    sink_px: places nearer than this, along each axis, are not told apart as ends.
    min_area_px: smaller cells are dropped.

    Source: ours, but for the flow (Cellpose: Stringer et al., 2021, Nature Methods 18, 100-106).
    """

    cell_threshold: float = 0.5
    flow_error: float = 0.9
    hop_px: int = 8
    sink_px: int = 4
    min_area_px: int = 6

    tuned: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "cell_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
        "flow_error": (0.4, 0.6, 0.9, 6.0),
    }
    contract_iou: ClassVar[float] = 0.98

    @property
    def reach_px(self) -> None:
        """No bound: jump by jump, a trail leads through the whole cell."""
        return None

    def decode(self, prediction: FloatArray) -> Instances:
        """Follow the flow a little, jump to where that leads in the end, put pixels together by where they end."""
        from fewcell.representations.flow_kernels import arrive, follow, split_by_sink

        ends = arrive(follow(prediction[FLOW], prediction[CELL] > self.cell_threshold, self.hop_px, False))
        labels = without_false_flows(split_by_sink(ends, self.sink_px, N_CLIMBS), prediction[FLOW], self.flow_error)
        return collect_instances(labels, prediction[CELL], self.min_area_px)

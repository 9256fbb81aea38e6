"""Loops over pixels for outlines: walks along the pixel edges of every cell at once."""

import numpy as np

from fewcell.compiled import compiled

__all__ = ["walk_outlines"]


@compiled
def walk_outlines(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Walk around every part, with its pixels on the right hand side as one sees it on the screen.

    parts: (height, width), 0 background, else one number for each part, connected across pixel edges. Returns
    corners (m, 2), x and y in pixel edges, of all rings one after the other; where each ring ends; the pixel below the
    edge where each begins, (r, 2), y and x; and whether a ring meets itself in a corner. The outer ring of a part comes
    before those of its holes. A ring is not closed by repeating its first corner.
    """
    height, width = parts.shape
    walked = np.zeros((height, width), dtype=np.bool_)  # the upper edge of the pixel
    corners, n_corners = np.empty((1024, 2), dtype=np.int32), 0
    ends, begins = np.empty(256, dtype=np.int64), np.empty((256, 2), dtype=np.int32)
    meets, n_rings = np.zeros(256, dtype=np.bool_), 0
    step_y, step_x = (0, 1, 0, -1), (1, 0, -1, 0)  # right, down, left, up
    in_y, in_x = (0, 0, -1, -1), (0, -1, -1, 0)  # the pixel ahead, on the side of the part, from the corner
    out_y, out_x = (-1, 0, 0, -1), (0, 0, -1, -1)  # the pixel ahead, on the other side
    for first_y in range(height):
        for first_x in range(width):
            part = parts[first_y, first_x]
            if part == 0 or walked[first_y, first_x] or (first_y > 0 and parts[first_y - 1, first_x] == part):
                continue
            if n_rings == len(ends):
                ends = np.append(ends, np.empty_like(ends))
                begins = np.concatenate((begins, np.empty_like(begins)))
                meets = np.append(meets, np.zeros_like(meets))
            begins[n_rings] = (first_y, first_x)
            y, x, heading, turned = first_y, first_x, 0, True
            while True:
                if turned:
                    if n_corners == len(corners):
                        corners = np.concatenate((corners, np.empty_like(corners)))
                    corners[n_corners] = (x, y)
                    n_corners += 1
                if heading == 0:
                    walked[y, x] = True
                y, x = y + step_y[heading], x + step_x[heading]
                iy, ix, oy, ox = y + in_y[heading], x + in_x[heading], y + out_y[heading], x + out_x[heading]
                inside = 0 <= iy < height and 0 <= ix < width and parts[iy, ix] == part
                outside = 0 <= oy < height and 0 <= ox < width and parts[oy, ox] == part
                turned = True
                if not inside:
                    heading = (heading + 1) % 4
                    meets[n_rings] |= outside
                elif outside:
                    heading = (heading + 3) % 4
                else:
                    turned = False
                if y == first_y and x == first_x and heading == 0:
                    break
            ends[n_rings] = n_corners
            n_rings += 1
    return corners[:n_corners], ends[:n_rings], begins[:n_rings], meets[:n_rings]

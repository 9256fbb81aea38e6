"""One pass over the pixels of instances: the sums that scores are made of."""

from fewcell.compiled import compiled

__all__ = ["MOMENTS", "add_pixels"]

# The columns of sums over pixels of an instance; then, per channel, over all of them and over those on the rim.
AREA, Y, X, YY, XX, YX, RIM_PX, FRAME_PX = MOMENTS = range(8)
INSIDE, RIM = 0, 1


@compiled
def add_pixels(labels, prediction, sums, inside, outside, outside_px):
    """Add every pixel to the sums of its instance, and to those that it lies beside, in the order of pixels.

    labels: (height, width) int32. prediction: (channel, height, width). All that is filled in has a row for each
    number, the first for none: sums (n + 1, 8), inside (n + 1, channel, 2), outside (n + 1, channel), outside_px.
    """
    height, width = labels.shape
    channels = prediction.shape[0]
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        for y in range(max(0, -dy), height - max(0, dy)):
            for x in range(max(0, -dx), width - max(0, dx)):
                other = labels[y + dy, x + dx]
                if other > 0 and other != labels[y, x]:
                    outside_px[other] += 1
                    for c in range(channels):
                        outside[other, c] += prediction[c, y, x]
    for y in range(height):
        for x in range(width):
            own = labels[y, x]
            if own <= 0:
                continue
            total = sums[own]
            total[AREA] += 1
            total[Y] += y
            total[X] += x
            total[YY] += y * y
            total[XX] += x * x
            total[YX] += y * x
            on_frame = y == 0 or x == 0 or y == height - 1 or x == width - 1
            total[FRAME_PX] += on_frame
            on_rim = on_frame or not (
                labels[y - 1, x] == own
                and labels[y + 1, x] == own
                and labels[y, x - 1] == own
                and labels[y, x + 1] == own
            )
            total[RIM_PX] += on_rim
            for c in range(channels):
                inside[own, c, INSIDE] += prediction[c, y, x]
                if on_rim:
                    inside[own, c, RIM] += prediction[c, y, x]

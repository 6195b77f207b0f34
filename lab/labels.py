"""Names beside the points of a picture, so that no reader has to look one up in a legend."""

from matplotlib.transforms import Bbox


def name_points(axis, points, fontsize=10):
    """Write (name, x, y, colour) of each point beside it, where the first free place is.

    The axes must have their limits and scales. A name that lies away from its point gets a line to it.
    """
    axis.figure.draw_without_rendering()   # so that places on the page are known
    at = {name: axis.transData.transform((x, y)) for name, x, y, _ in points}
    taken = [Bbox.from_bounds(x - 8, y - 8, 16, 16) for x, y in at.values()]
    frame = axis.get_window_extent()
    places = [(side * (8 + reach), height, "left" if side > 0 else "right")
              for reach, heights in ((0, (0, 10, -10)), (12, (25, -25, 40, -40, 55, -55, 75, -75)))
              for height in heights for side in (1, -1)]
    for name, x, y, colour in points:
        for right, up, side in places:
            offset = {"xytext": (right, up), "textcoords": "offset points"}
            text = axis.annotate(name, (x, y), **offset, ha=side, va="center", color=colour,
                                 fontsize=fontsize)
            box = text.get_window_extent().padded(1)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                break
            if (right, up, side) != places[-1]:   # if no place is free, the last one has to do
                text.remove()
        taken.append(box)
        if abs(up) > 10:
            line = {"arrowstyle": "-", "color": colour, "alpha": 0.5}
            axis.annotate("", (x, y), arrowprops=line, **offset)

"""What of a figure's text lies over other text, or beyond the edge, by bounding boxes."""

import itertools


def texts(figure):
    """Every text that is drawn, with its box in pixels. Ticks beyond the limits have labels, and are not drawn."""
    figure.draw_without_rendering()  # which is when ticks get their labels
    found = [*figure.texts, *([figure._supxlabel] if figure._supxlabel else [])]
    for legend in figure.legends:
        found += [*legend.get_texts(), legend.get_title()]
    for axes in (axes for axes in figure.axes if axes.get_visible()):
        found += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = (high - low) * 1e-9
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            found += [tick.label1 for tick in ticks if low - slack <= tick.get_loc() <= high + slack]
    renderer = figure.canvas.get_renderer()
    seen = [text for text in found if text.get_text().strip() and text.get_visible()]
    return [(text, text.get_window_extent(renderer)) for text in dict.fromkeys(seen)]


def overlapping(figure, slack=1.0):
    """Pairs of texts whose boxes share more than ``slack`` pixels in both directions."""
    found = []
    for (a, box_a), (b, box_b) in itertools.combinations(texts(figure), 2):
        wide = min(box_a.x1, box_b.x1) - max(box_a.x0, box_b.x0)
        high = min(box_a.y1, box_b.y1) - max(box_a.y0, box_b.y0)
        if wide > slack and high > slack:
            found.append((a.get_text(), b.get_text()))
    return found


def beyond(figure, slack=1.0):
    """Texts that the edge of the figure cuts."""
    width, height = figure.get_size_inches() * figure.dpi
    return [
        text.get_text()
        for text, box in texts(figure)
        if box.x0 < -slack or box.y0 < -slack or box.x1 > width + slack or box.y1 > height + slack
    ]

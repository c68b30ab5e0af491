"""SVG, without a library: bars and lines. Every function returns the text of a file."""

import math
from xml.sax.saxutils import escape

COLOURS = ["#2a6f97", "#c98b2b", "#5b8e4d", "#a4446c", "#6b5ca5", "#7a7a7a"]


def document(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
            + "".join(parts) + "</svg>\n")


def text(x, y, words, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(str(words))}</text>'


def legend(names, x, y):
    parts = []
    for name, colour in zip(names, COLOURS):
        parts.append(text(x, y, name, f'fill="{colour}"'))
        x += 7 * len(name) + 20
    return parts


def bars(title, groups, series, unit):
    """A group of bars for each (label, [(height, mark) or None for each of `series`]): the mark is a line across."""
    bar, gap, top, height = 14, 10, 55, 260
    most = max((max(pair) for _, pairs in groups for pair in pairs if pair), default=1) or 1
    ticks = [f"{most * tick / 4:.4g} {unit}" for tick in range(5)]
    left = 20 + 7 * max(map(len, ticks))
    parts = [text(left, 20, title), *legend(series, left, 38)]
    step = len(series) * bar + gap
    for index, (label, pairs) in enumerate(groups):
        x = left + index * step
        for offset, (pair, colour) in enumerate(zip(pairs, COLOURS)):
            if pair is None:
                continue
            low, mark = (value / most * height for value in pair)
            start = x + offset * bar
            parts.append(f'<rect x="{start}" y="{top + height - low:.1f}" width="{bar}" height="{low:.1f}" '
                         f'fill="{colour}"/><path d="M{start} {top + height - mark:.1f}h{bar}" stroke="#333"/>')
        parts.append(f'<text transform="translate({x + bar},{top + height + 8}) rotate(60)">{escape(label)}</text>')
    for tick, words in enumerate(ticks):
        y = top + height - tick / 4 * height
        parts += [f'<path d="M{left - 4} {y}h4" stroke="#333"/>', text(left - 8, y + 4, words, 'text-anchor="end"')]
    longest = 7 * max((len(label) for label, _ in groups), default=0)
    return document(max(left + len(groups) * step + longest / 2, 400), top + height + longest + 20, parts)


def lines(title, series, x_label, y_label, log_x=False, log_y=False, x_ticks=None, y_ticks=None):
    """A line for each (name, [(x, y), …]). Ticks are (value, words), made up where they are not given."""
    left, top, width, height = 80, 55, 640, 320
    points = [point for _, line in series for point in line]
    scale_x = Scale([x for x, _ in points], log_x, x_ticks)
    scale_y = Scale([y for _, y in points], log_y, y_ticks)
    parts = [text(left, 20, title), *legend([name for name, _ in series], left, 38),
             text(left + width / 2, top + height + 40, x_label, 'text-anchor="middle"'),
             f'<text transform="translate(14,{top + height / 2}) rotate(-90)" text-anchor="middle">'
             f"{escape(y_label)}</text>"]
    for value, words in scale_x.ticks:
        x = left + scale_x.place(value) * width
        parts += [f'<path d="M{x:.1f} {top}v{height}" stroke="#ddd"/>',
                  text(x, top + height + 16, words, 'text-anchor="middle"')]
    for value, words in scale_y.ticks:
        y = top + height - scale_y.place(value) * height
        parts += [f'<path d="M{left} {y:.1f}h{width}" stroke="#ddd"/>',
                  text(left - 6, y + 4, words, 'text-anchor="end"')]
    for (_, line), colour in zip(series, COLOURS):
        path = " ".join(f"{left + scale_x.place(x) * width:.1f},{top + height - scale_y.place(y) * height:.1f}"
                        for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if len(line) <= 40:
            parts += [f'<circle cx="{place.split(",")[0]}" cy="{place.split(",")[1]}" r="2.5" fill="{colour}"/>'
                      for place in path.split()]
    return document(left + width + 30, top + height + 60, parts)


class Scale:
    """Where a value lies between 0 and 1, and the ticks."""

    def __init__(self, values, is_log, ticks=None):
        self.is_log = is_log
        values = [value for value in values if value > 0 or not is_log] or [1]
        if ticks:
            values = values + [value for value, _ in ticks]
        if is_log:
            self.low, self.high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
            if ticks:
                self.low, self.high = math.log10(min(values)), math.log10(max(values))
            else:
                ticks = [(10 ** power, f"{10 ** power:,g}") for power in range(int(self.low), int(self.high) + 1)]
        else:
            self.low, self.high = min(0, *values, 0), max(values)
            ticks = ticks or [(self.high * n / 4, f"{self.high * n / 4:,.4g}") for n in range(5)]
        if self.high <= self.low:
            self.high = self.low + 1
        self.ticks = ticks

    def place(self, value):
        value = math.log10(max(value, 10 ** self.low)) if self.is_log else value
        return (value - self.low) / (self.high - self.low)

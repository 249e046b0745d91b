"""The figures as a picture: for each data set bars as long as the bytes, in units of the best rival's."""

import html

BAR, GAP, LEFT, WIDTH, LIMIT = 13, 22, 250, 560, 2.0
OURS, PART, BEST, OTHER, INK, FAINT = "#0b6e8f", "#9cc9d8", "#8a8f98", "#c9ccd1", "#22262b", "#9aa0a6"


def svg(columns):
    """`columns`: for each data set (title, [(program, bytes, colour or None)], bytes of the best rival)."""
    rows, y = [], 34
    for title, bars, best in columns:
        rows.append(label(0, y + 4, title, "bold", 13))
        y += 14
        for name, value, own in bars:
            share = value / best
            length = WIDTH * min(share, LIMIT) / LIMIT
            colour = own or (BEST if value == best else OTHER)
            rows.append(label(LEFT - 8, y + BAR - 3, name, "bold" if own == OURS else "normal", 11, "end"))
            rows.append(f'<rect x="{LEFT}" y="{y}" width="{max(length, 1):.1f}" height="{BAR - 2}" fill="{colour}"/>')
            shown = f"{value / 1e6:,.2f} MB" + (f", {share:.1f}x" if share > LIMIT else f", {100 * share:.0f} %")
            rows.append(label(LEFT + length + 5, y + BAR - 3, shown, "normal", 10))
            y += BAR
        y += GAP
    marks = []
    for share, text in ((0.5, "half: the goal"), (1.0, "the best of the others")):
        x = LEFT + WIDTH * share / LIMIT
        marks.append(f'<line x1="{x}" y1="24" x2="{x}" y2="{y - GAP}" stroke="{FAINT}" stroke-dasharray="3 3"/>')
        marks.append(label(x, 18, text, "normal", 10, "middle"))
    width = LEFT + WIDTH + 140
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 {width + 10} {y}" font-family="sans-serif">\n'
        f'<rect x="-10" width="{width + 10}" height="{y}" fill="#ffffff"/>\n' + "\n".join(marks + rows) + "\n</svg>\n"
    )


def label(x, y, text, weight, size, anchor="start"):
    return (f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
            f'fill="{INK}">{html.escape(text)}</text>')

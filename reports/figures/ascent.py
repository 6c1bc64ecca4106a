"""What the step size λ does: predicted and true IoU along the ascent."""

from __future__ import annotations

import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from reports.figures.axes import legend_below, seeds_and_mean, signed_tick
from reports.figures.diagnosed import change, number_text, require_boxes, shown_rows, shown_seeds, whose
from reports.figures.figure import Illustration, seeds_note
from reports.figures.style import GREY, SEQUENCE, panels
from reports.results.collect import Results
from reports.results.diagnostics import rows_of, shown_variant
from reports.results.sides import POINTS

LINEAR, TICKS = 0.2, (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)  # the y axis is linear up to, then logarithmic
STEP_SHADES = LinearSegmentedColormap.from_list("steps", SEQUENCE)


def frame(results: Results) -> pd.DataFrame:
    """Mean predicted and true IoU along the ascent: `variant, seed, step_size, iou, step, value, change`, × 100."""
    return pd.DataFrame(
        {
            "variant": row["variant"],
            "seed": row["seed"],
            "step_size": float(ascent["step_size"]),
            "iou": name,
            "step": step,
            "value": None if value is None else POINTS * value,
            "change": change(value, ascent[name][0]),
        }
        for row in rows_of(results)
        for ascent in row["data"]["ascent"]
        for name in ("predicted", "true")
        for step, value in enumerate(ascent[name])
    ).astype({"value": float, "change": float})


def draw(data: pd.DataFrame, *, variant: str) -> Figure:
    """Change of a variant's predicted and true IoU by step, one line per λ."""
    own = data[data["variant"] == variant]
    steps = sorted(own["step_size"].unique())
    figure, axes = panels(2, height=4.0)
    axes[1].sharey(axes[0])
    for panel, name in zip(axes, ("predicted", "true"), strict=True):
        panel.axhline(0, color=GREY, linewidth=1)
        for index, step in enumerate(steps):
            line = own[(own["iou"] == name) & (own["step_size"] == step)]
            colour = STEP_SHADES(index / max(1, len(steps) - 1))
            seeds_and_mean(panel, line, x="step", y="change", colour=colour, thin=0.6, faint=0.4, label=f"λ = {step:g}")
        panel.set_yscale("symlog", linthresh=LINEAR, linscale=0.8)
        panel.yaxis.set_major_locator(FixedLocator([sign * tick for sign in (-1, 1) for tick in TICKS] + [0]))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.set(title=f"{name.capitalize()} IoU", xlabel="steps", ylabel="change since the start, × 100")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.yaxis.set_major_formatter(signed_tick)
    legend_below(figure, axes[0].get_legend_handles_labels()[0], 4 if len(steps) > 5 else len(steps))
    return figure


def make(results: Results) -> Illustration:
    """The figure."""
    data, variant = frame(results), shown_variant(results)
    require_boxes(results, [ascent["boxes"] for row in shown_rows(results) for ascent in row["data"]["ascent"]])
    own = data[(data["variant"] == variant) & (data["step"] == data["step"].max())]
    means = own.groupby(["iou", "step_size"])["change"].mean()
    parts = []
    for name in ("predicted", "true"):
        values = means[name].dropna()
        if len(values):
            ends = (values.idxmax(), values.idxmin())
            best, worst = (f"{number_text(values[step], signed=True)} at λ = {step:g}" for step in ends)
            parts.append(f"{name} IoU has changed by {best} (most) to {worst} (least)")
    text = f"After {data['step'].max()} steps the mean " + ("; the ".join(parts) or "is undefined")
    caption = (
        f"Mean over the positive boxes kept by IoU-guided NMS ({whose(results)}); the change since the start, × 100, "
        f"on an axis that is logarithmic beyond ±{LINEAR:g}. {text}. {seeds_note(shown_seeds(results))}"
    )
    alt = f"Line charts of predicted and true IoU by step of the ascent, one line per λ. {text}."
    title = "Predicted and true IoU along the ascent, by step size λ"
    return Illustration("ascent", title, caption, alt, lambda: draw(data, variant=variant), data)

"""The charts of the hyper-parameter search: what they show, and how they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from reports.figures.charts import legend_below
from reports.figures.illustrations import Illustration
from reports.figures.style import BLUE, DENSITY, GREY, INK, ORANGE, SKY, panels
from reports.results.search import SearchResults, setting_text
from suite.errors import NotInSuite
from suite.search import PARAMETERS, SAMPLINGS

KINDS = {"published": (ORANGE, "s"), "sampler": (BLUE, "o")}
SHADES = LinearSegmentedColormap.from_list("AP", DENSITY)
SHARES = {"training": "training parameters", "guide": "guide", "step_size": "λ", "interactions": "interactions"}


def history(sweep: SearchResults) -> pd.DataFrame:
    """Complete trials by number: `number, kind, source, AP, best` (the best so far)."""
    own = sweep.complete.sort_values("number")
    kind = np.where(own["source"] == "sampler", "sampler", "published")
    frame = pd.DataFrame({"number": own["number"], "kind": kind, "source": own["source"], "AP": own["value"]})
    return frame.assign(best=frame["AP"].cummax()).reset_index(drop=True)


def slices(sweep: SearchResults) -> pd.DataFrame:
    """AP by training parameter, in published units: `number, kind, parameter, value, AP`."""
    frame = history(sweep)[["number", "kind", "AP"]]
    merged = frame.merge(sweep.trials.drop(columns="value"), on="number")
    present = [key for key in PARAMETERS if key in merged and merged[key].notna().any()]
    long = merged.melt(["number", "kind", "AP"], present, "parameter", "value").dropna(subset="value")
    return long.astype({"value": float}).reset_index(drop=True)


def pairs(sweep: SearchResults) -> pd.DataFrame:
    """AP by loss weight and amount of RoIs: `number, kind, loss_weight, sampling, rois, AP`.

    Raises:
        NotInSuite: the search has no such pair of parameters.
    """
    wide = slices(sweep).pivot(index=["number", "kind", "AP"], columns="parameter", values="value").reset_index()
    amounts = [key for key in SAMPLINGS if key in wide]
    if "loss_weight" not in wide or not amounts:
        raise NotInSuite("the search varies one parameter only")
    long = wide.melt(["number", "kind", "loss_weight", "AP"], amounts, "sampling", "rois")
    return long.dropna(subset=["rois", "loss_weight"]).reset_index(drop=True)


def importances(sweep: SearchResults) -> pd.DataFrame:
    """`panel, name, share` in %: of the training parameters (PED-ANOVA), and of the variance of AP over the grid."""
    parameters = sweep.importance["parameters"] or {}
    variance = sweep.importance["variance"] or {}
    records = [
        ("parameters", PARAMETERS[key].label if key in PARAMETERS else key, 100 * share)
        for key, share in parameters.items()
    ]
    records += [("variance", SHARES[key], 100 * share) for key, share in variance.items()]
    if not records:
        raise NotInSuite("AP does not vary over the trials")
    return pd.DataFrame(records, columns=["panel", "name", "share"])


def history_figure(sweep: SearchResults) -> Illustration:
    """AP of each trial, and the best so far."""
    frame = history(sweep)
    first = frame[frame["AP"] == frame["AP"].max()].iloc[0]
    states = sweep.summary["states"]
    left_out = [
        f"{states[state]} {text}" for state, text in (("pruned", "pruned"), ("fail", "failed")) if state in states
    ]
    note = f" Not shown: {' and '.join(left_out)}." if left_out else ""
    caption = f"Best AP over the inference settings on `{sweep.summary['split']}`; the line is the best so far.{note}"
    alt = (
        f"Dot chart of AP by trial, {len(frame)} complete trials from {frame['AP'].min():.1f} to "
        f"{frame['AP'].max():.1f}; the best is trial {first['number']}."
    )
    return Illustration("sweep_history", "Trials of the search", caption, alt, lambda: draw_history(frame), frame)


def importance_figure(sweep: SearchResults) -> Illustration:
    """What AP depends on."""
    frame = importances(sweep)
    parts = {name: frame[frame["panel"] == name] for name in dict.fromkeys(frame["panel"])}
    words = {
        name: ", ".join(f"{row['name']} {row['share']:.0f} %" for row in own.to_dict("records"))
        for name, own in parts.items()
    }
    trials, method = sweep.importance["trials"], sweep.importance["method"]
    if "parameters" in parts:
        caption = f"Left: {method}, from {trials} complete trials."
    else:
        caption = f"{trials} complete trials do not tell one training parameter from another ({method})."
    if "variance" in parts:
        caption += (
            " Shares of the variance: of AP over all trials × guides × λ, an exact decomposition of the values there "
            "are; the rest are interactions."
        )
    alt = "Bar charts. " + "; ".join(
        f"{'Importance of the training parameters' if name == 'parameters' else 'Share of the variance'}: {text}"
        for name, text in words.items()
    )
    return Illustration("sweep_importance", "What AP depends on", caption, alt + ".",
                        lambda: draw_importance(frame), frame)  # fmt: skip


def slice_figure(sweep: SearchResults) -> Illustration:
    """AP by each training parameter."""
    frame = slices(sweep)
    best = frame[frame["number"] == sweep.best["trial"]]
    at = ", ".join(f"{PARAMETERS[row['parameter']].label} {row['value']:.3g}" for row in best.to_dict("records"))
    caption = (
        "One panel per training parameter, in published units, logarithmic axes; a trial has one of the two ways to "
        "sample RoIs. The ring is the best trial. The other parameters vary too: a slope need not be this one's doing."
    )
    alt = f"Dot charts of AP by training parameter; the best trial has {at}."
    return Illustration("sweep_slices", "AP by training parameter", caption, alt,
                        lambda: draw_slices(frame, sweep.best["trial"], sweep.summary["space"]), frame)  # fmt: skip


def pair_figure(sweep: SearchResults) -> Illustration:
    """AP by pairs of training parameters."""
    frame = pairs(sweep)
    caption = (
        "The shade is AP, the ring the best trial; squares are published points, dots the sampler's. Drawn as points: "
        "contours through so few would be the interpolation's."
    )
    best = frame[frame["number"] == sweep.best["trial"]].iloc[0]
    alt = (
        f"Scatter charts of {len(frame)} trials by loss weight and RoIs; the best has loss weight "
        f"{best['loss_weight']:.3g} and {best['rois']:.0f} {PARAMETERS[best['sampling']].amount}."
    )
    return Illustration("sweep_pairs", "AP by pairs of training parameters", caption, alt,
                        lambda: draw_pairs(frame, sweep.best["trial"], sweep.summary["space"]), frame)  # fmt: skip


def profile_figure(sweep: SearchResults) -> Illustration:
    """AP by λ, of every trial, for every guide."""
    frame = sweep.profiles
    default = sweep.best["default"]["trial"]
    best = frame.loc[frame.groupby("number")["AP"].idxmax()]
    counts = best.groupby(["guide", "step_size"]).size().sort_values(ascending=False)
    guide, step_size = counts.index[0]
    said = f"{setting_text(guide, step_size)} is the best setting of {counts.iloc[0]} of {len(best)} trials"
    caption = (
        f"Every line is one checkpoint, evaluated with every λ and guide on `{sweep.summary['split']}`; λ in published "
        f"units, in brackets as used; 0 is no refinement. A ring marks a trial's best setting; {said}."
    )
    alt = f"Line charts of AP by step size λ, one line per trial, one panel per guide: {said.replace('`', '')}."
    return Illustration("sweep_profiles", "AP by step size λ, of every trial", caption, alt,
                        lambda: draw_profiles(frame, sweep.best["trial"], default), frame)  # fmt: skip


def draw_history(frame: pd.DataFrame) -> Figure:
    """Dots by kind, and the best so far as a step line."""
    figure, (panel,) = panels(1, width=7.6, height=3.2)
    panel.step(frame["number"], frame["best"], where="post", color=GREY, linewidth=1.2)
    for kind, (colour, marker) in KINDS.items():
        own = frame[frame["kind"] == kind]
        panel.plot(own["number"], own["AP"], linestyle="", marker=marker, color=colour, markersize=6)
    panel.set(title="AP by trial", xlabel="trial", ylabel="AP")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [_dot(kind) for kind in KINDS if (frame["kind"] == kind).any()]
    legend_below(figure, [*handles, Line2D([], [], color=GREY, linewidth=1.2, label="best so far")], 3)
    return figure


def _dot(kind: str) -> Line2D:
    colour, marker = KINDS[kind]
    label = "published point" if kind == "published" else "sampler"
    return Line2D([], [], linestyle="", marker=marker, color=colour, markersize=6, label=label)


def draw_importance(frame: pd.DataFrame) -> Figure:
    """Horizontal bars with their shares."""
    titles = {"parameters": "Importance of training parameters", "variance": "Share of the variance of AP"}
    names = list(dict.fromkeys(frame["panel"]))
    figure, axes = panels(len(names), width=4.5 * max(2, len(names)), height=2.6)
    for axis, name in zip(axes, names, strict=True):
        own = frame[frame["panel"] == name][::-1]
        axis.barh(own["name"], own["share"], color=BLUE if name == "parameters" else SKY, height=0.6)
        for position, share in enumerate(own["share"]):
            axis.text(share + 1, position, f"{share:.0f} %", va="center", fontsize=8.5)
        axis.set(title=titles[name], xlabel="%", xlim=(0, 112))
        axis.xaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
        axis.grid(axis="y", visible=False)
    return figure


def draw_slices(frame: pd.DataFrame, best: int, space: Mapping[str, Sequence[float]]) -> Figure:
    """One panel per parameter."""
    names = [name for name in PARAMETERS if (frame["parameter"] == name).any()]
    figure, axes = panels(len(names), width=3.4 * max(2, len(names)), height=3.3)
    for axis, name in zip(axes, names, strict=True):
        own = frame[frame["parameter"] == name]
        for kind, (colour, marker) in KINDS.items():
            dots = own[own["kind"] == kind]
            axis.plot(dots["value"], dots["AP"], linestyle="", marker=marker, color=colour, markersize=6)
        _ring(axis, own[own["number"] == best], "value", "AP")
        axis.set(title=_title(PARAMETERS[name].label), xlabel=PARAMETERS[name].label, ylabel="AP")
        _log_axis(axis, space[name])
    low, high = frame["AP"].min(), frame["AP"].max()
    margin = 0.1 * (high - low) or 1.0
    for axis in axes:
        axis.set_ylim(low - margin, high + margin)
    legend_below(figure, [_dot(kind) for kind in KINDS if (frame["kind"] == kind).any()], 2)
    return figure


def draw_pairs(frame: pd.DataFrame, best: int, space: Mapping[str, Sequence[float]]) -> Figure:
    """Loss weight against the amount of RoIs, one panel per way to sample them."""
    names = list(dict.fromkeys(frame["sampling"]))
    figure, axes = panels(len(names), width=4.4 * max(2, len(names)), height=3.6)
    low, high = frame["AP"].min(), frame["AP"].max()
    image = None
    for axis, name in zip(axes, names, strict=True):
        own = frame[frame["sampling"] == name]
        for kind, (_, marker) in KINDS.items():
            dots = own[own["kind"] == kind]
            image = axis.scatter(dots["loss_weight"], dots["rois"], c=dots["AP"], cmap=SHADES, vmin=low,
                                 vmax=max(high, low + 0.1), marker=marker, s=52, edgecolors=GREY, zorder=3)  # fmt: skip
        _ring(axis, own[own["number"] == best], "loss_weight", "rois")
        axis.set(title=_title(PARAMETERS[name].label), xlabel="loss weight", ylabel=PARAMETERS[name].label)
        _log_axis(axis, space["loss_weight"])
        axis.set_yscale("log")
        axis.set_ylim(space[name][0] / 1.3, space[name][1] * 1.3)
        axis.yaxis.set_major_locator(FixedLocator(_ticks(*space[name])))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if image is not None:
        figure.colorbar(image, ax=axes, label="AP", pad=0.01, aspect=30).outline.set_visible(False)
    return figure


def draw_profiles(frame: pd.DataFrame, best: int, default: int | None) -> Figure:
    """AP by λ: the winner and the default stand out."""
    guides = list(dict.fromkeys(frame["guide"]))
    steps = frame[["step_size", "actual_step_size"]].drop_duplicates().sort_values("step_size")
    places = {step: place for place, step in enumerate(steps["step_size"])}
    chosen = set(frame.groupby("number")["AP"].idxmax())
    figure, axes = panels(len(guides), width=3.4 * max(2, len(guides)), height=3.7)
    for axis, guide in zip(axes, guides, strict=True):
        axis.sharey(axes[0])
        for number, own in frame[frame["guide"] == guide].groupby("number"):
            style = _line(number, best, default)
            own = own.sort_values("step_size")
            x = own["step_size"].map(places)
            axis.plot(x, own["AP"], marker="o", markersize=3.5, **style)
            ring = own.index.isin(chosen)
            axis.plot(x[ring], own["AP"][ring], linestyle="", marker="o", markersize=10, markerfacecolor="none",
                      markeredgecolor=style["color"], markeredgewidth=1.2, zorder=4)  # fmt: skip
        axis.set_xticks(
            range(len(places)),
            [f"{row['step_size']:g}\n({row['actual_step_size']:g})" for row in steps.to_dict("records")],
        )
        axis.set(title=f"Guide: {guide}", xlabel="λ", ylabel="AP")
    names = {
        "best trial": _line(best, best, None),
        "default": _line(default, None, default),
        "others": _line(-1, None, None),
    }
    if default is None or default == best:
        names.pop("default")
    legend_below(figure, [Line2D([], [], label=name, **style) for name, style in names.items()], 3)
    return figure


def _line(number: Any, best: int | None, default: int | None) -> dict[str, Any]:
    if best is not None and number == best:
        return {"color": BLUE, "linewidth": 2.0, "zorder": 3}
    if default is not None and number == default:
        return {"color": ORANGE, "linewidth": 1.8, "zorder": 2.8}
    return {"color": GREY, "linewidth": 0.9, "alpha": 0.7, "zorder": 2}


def _ring(axis: Axes, own: pd.DataFrame, x: str, y: str) -> None:
    axis.plot(own[x], own[y], linestyle="", marker="o", markersize=13, markerfacecolor="none", markeredgecolor=INK,
              markeredgewidth=1.3, zorder=4)  # fmt: skip


def _log_axis(axis: Axes, limits: Sequence[float]) -> None:
    """A logarithmic axis as wide as the search space."""
    low, high = map(float, limits)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(_ticks(low, high)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_xlim(low / 1.3, high * 1.3)


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade between the limits."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    return [float(tick) for tick in np.outer(decades, [1, 2, 5]).ravel() if low <= tick <= high]


def _title(label: str) -> str:
    return label[0].upper() + label[1:]

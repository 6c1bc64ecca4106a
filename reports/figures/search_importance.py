"""What AP depends on in the search: importance of the training parameters, and shares of the variance."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from reports.figures.figure import Illustration
from reports.figures.style import BLUE, SKY, panels
from reports.results.search import SearchResults
from suite.errors import NotInSuite
from suite.search import PARAMETERS

SHARES = {"training": "training parameters", "guide": "guide", "step_size": "λ", "interactions": "interactions"}
COLOURS = {"parameters": BLUE, "variance": SKY}
TITLES = {"parameters": "Importance of training parameters", "variance": "Share of the variance of AP"}


def frame(search: SearchResults) -> pd.DataFrame:
    """`panel, name, share` in %: of the training parameters (PED-ANOVA), and of the variance of AP over the grid.

    Raises:
        NotInSuite: there is neither.
    """
    parameters = search.importance["parameters"] or {}
    variance = search.importance["variance"] or {}
    labels = {key: parameter.label for key, parameter in PARAMETERS.items()}
    records = [("parameters", labels.get(key, key), 100 * share) for key, share in parameters.items()]
    records += [("variance", SHARES[key], 100 * share) for key, share in variance.items()]
    if not records:
        raise NotInSuite("AP does not vary over the trials")
    return pd.DataFrame(records, columns=["panel", "name", "share"])


def draw(data: pd.DataFrame) -> Figure:
    """Horizontal bars with their shares."""
    names = list(dict.fromkeys(data["panel"]))
    figure, axes = panels(len(names), width=4.5 * max(2, len(names)), height=2.6)
    for panel, name in zip(axes, names, strict=True):
        own = data[data["panel"] == name][::-1]
        panel.barh(own["name"], own["share"], color=COLOURS[name], height=0.6)
        for position, share in enumerate(own["share"]):
            panel.text(share + 1, position, f"{share:.0f} %", va="center", fontsize=8.5)
        panel.set(title=TITLES[name], xlabel="%", xlim=(0, 112))
        panel.xaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
        panel.grid(axis="y", visible=False)
    return figure


def make(search: SearchResults) -> Illustration:
    """The figure."""
    data = frame(search)
    parts = {name: data[data["panel"] == name] for name in dict.fromkeys(data["panel"])}
    words = {
        name: ", ".join(f"{row['name']} {row['share']:.0f} %" for row in own.to_dict("records"))
        for name, own in parts.items()
    }
    trials, method = search.importance["trials"], search.importance["method"]
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
    return Illustration("sweep_importance", "What AP depends on", caption, alt + ".", lambda: draw(data), data)

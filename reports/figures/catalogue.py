"""Every figure that a report can have, by its key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reports.context import Context
from reports.figures import (
    ascent,
    confidence,
    improvement,
    losses,
    refinement,
    search_history,
    search_importance,
    search_pairs,
    search_profiles,
    search_slices,
    speed,
    step_size,
    survivors,
    thresholds,
    validation,
)
from reports.figures.figure import Illustration, require_some
from reports.figures.samples import nms, sheet
from reports.results.collect import Results
from reports.results.search import SearchResults
from suite.errors import NotInSuite

Make = Callable[[Context], Illustration | None]


@dataclass(frozen=True)
class FigureEntry:
    """A figure that a report can have.

    Attributes:
        title: what a line calls it where it is left out.
        make: makes the figure, or None where there is nothing to show and nothing to say about it. It raises
            `NotInSuite` and `MissingResult` as a table does, and `NothingToShow` where it would be empty.
        table: key of the table that it goes with: without it there is no figure. '' = the whole report.
    """

    title: str
    make: Make
    table: str = ""


def _of_results(make: Callable[[Results], Illustration | None]) -> Make:
    return lambda context: make(context.results)


def _of_search(make: Callable[[SearchResults], Illustration]) -> Make:
    def made(context: Context) -> Illustration:
        if context.search is None:
            raise NotInSuite("there is no finished search")
        require_some(context.search.complete["value"], "AP of every trial is 0")
        return make(context.search)

    return made


FIGURES: dict[str, FigureEntry] = {
    "improvement": FigureEntry("Improvement", lambda c: improvement.make(c.results, c.published), "main"),
    "thresholds": FigureEntry("AP by IoU threshold", _of_results(thresholds.make), "ablation"),
    "confidence": FigureEntry("Class score and predicted IoU", _of_results(confidence.make), "confidence"),
    "survivors": FigureEntry("Survivors of NMS", _of_results(survivors.make), "confidence"),
    "refinement": FigureEntry("Refinement", _of_results(refinement.make), "confidence"),
    "ascent": FigureEntry("Ascent", _of_results(ascent.make), "confidence"),
    "samples": FigureEntry("Sample detections", _of_results(sheet.make), "main"),
    "nms": FigureEntry("What NMS keeps", _of_results(nms.make), "ablation"),
    "samples_of_variants": FigureEntry("The other variants", _of_results(sheet.make_of_variants), "variants"),
    "step_size": FigureEntry("AP by step size λ", lambda c: step_size.make(c.results, c.published), "step_size"),
    "speed": FigureEntry("Time of inference", lambda c: speed.make(c.results, c.published), "speed"),
    "sweep_history": FigureEntry("Trials of the search", _of_search(search_history.make), "sweep_trials"),
    "sweep_importance": FigureEntry("What AP depends on", _of_search(search_importance.make), "sweep_trials"),
    "sweep_slices": FigureEntry("AP by training parameter", _of_search(search_slices.make), "sweep_trials"),
    "sweep_pairs": FigureEntry("AP by pairs of training parameters", _of_search(search_pairs.make), "sweep_trials"),
    "sweep_profiles": FigureEntry(
        "AP by step size λ, of every trial", _of_search(search_profiles.make), "sweep_trials"
    ),
    "losses": FigureEntry("Training losses", _of_results(losses.make)),
    "validation": FigureEntry("AP by epoch", _of_results(validation.make)),
}

"""A results folder as tidy frames: evaluations, runs and training histories, each row with the file it came from.

Nothing is averaged here. A file that is damaged, or that belongs to another suite, dataset, variant or seed than its
folder says, is refused with an error naming file and key; one made from another checkpoint than the run beside it has,
or with another config than its variant's latest run, is kept and marked stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.errors import MissingResult, ReportError
from reports.results.files import need, read_json
from reports.results.matches import Matches, average_precision, draw_image_weights, load_matches
from reports.results.readers import Place, mark_stale_evaluations, mark_stale_speeds
from reports.statistics import RESAMPLES, Interval
from suite.layout import EvaluationFolder, Layout
from suite.suite import Suite


@dataclass(frozen=True)
class Results:
    """Everything a report is computed from, but for the hyper-parameter search (`reports.results.search`).

    Attributes:
        root: the results folder; `layout` knows what lies in it.
        evaluations: one row per variant, seed, split and setting; metrics in [0, 1]; `source` is the file's path below
            `root`, `stale` says why the row is out of date ('' when it is not).
        runs: one row per variant and seed; `source`, `history_source`, and `data` (the parsed run.json).
        histories: the training histories in one frame, with `variant`, `seed` and `source` columns.
        dataset: the manifest of the images, or None without one.
        diagnostics: one row per variant and seed that has any: `source`, `stale`, and `data` (the parsed file).
        speeds: one row per device whose inference was timed: `device`, `source`, `stale`, and `data`.
        resamples: image sets that intervals are computed from; 0 for none.
        intervals: of differences, each computed once (`reports.comparison`).
    """

    suite: Suite
    root: Path
    evaluations: pd.DataFrame
    runs: pd.DataFrame
    histories: pd.DataFrame
    dataset: Mapping[str, Any] | None
    diagnostics: pd.DataFrame = field(default_factory=pd.DataFrame)
    speeds: pd.DataFrame = field(default_factory=pd.DataFrame)
    resamples: int = 0
    intervals: dict[Any, Interval] = field(default_factory=dict, repr=False)
    _matches: dict[tuple[str, int, str], Matches] = field(default_factory=dict, repr=False)
    _resampled: dict[tuple[str, int, str, int | None], NDArray[np.float64]] = field(default_factory=dict, repr=False)

    @property
    def layout(self) -> Layout:
        """Where everything lies."""
        return Layout(self.root)

    @property
    def is_generated(self) -> bool:
        """Whether the images were made by this project, in miniature, and not found in a folder."""
        return self.dataset is not None and "generator" in self.dataset

    @property
    def download(self) -> str | None:
        """Name of the public data set that the images are, if they are one."""
        return None if self.dataset is None else self.dataset.get("download")

    @cached_property
    def _evaluations(self) -> dict[tuple[str, int, str], Mapping[str, Any]]:
        rows: list[Any] = self.evaluations.to_dict("records")
        return {(row["variant"], row["seed"], row["setting"]): row for row in rows}

    @cached_property
    def _runs(self) -> dict[tuple[str, int], Mapping[str, Any]]:
        rows: list[Any] = self.runs.to_dict("records")
        return {(row["variant"], row["seed"]): row for row in rows}

    def evaluation(self, variant: str, seed: int, setting: str) -> Mapping[str, Any]:
        """The row of one evaluation on the suite's report split.

        Raises:
            NotInSuite: the variant is not in the suite.
            MissingResult: the evaluation file does not exist; the message names it.
        """
        variant = self.suite.standing_for(variant)
        if (variant, seed, setting) not in self._evaluations:
            path = self.layout.evaluation(variant, seed, self.suite.report_split).setting(setting)
            raise MissingResult(f"{path}: no such file; run the evaluation of this checkpoint")
        return self._evaluations[variant, seed, setting]

    def has_evaluation(self, variant: str, seed: int, setting: str) -> bool:
        """Whether `evaluation` has this row."""
        return (variant, seed, setting) in self._evaluations

    def run(self, variant: str, seed: int) -> Mapping[str, Any]:
        """The row of one training run.

        Raises:
            NotInSuite: the variant is not in the suite.
            MissingResult: its run.json does not exist.
        """
        variant = self.suite.standing_for(variant)
        if (variant, seed) not in self._runs:
            raise MissingResult(f"{self.layout.run(variant, seed).run}: no such file; run the training first")
        return self._runs[variant, seed]

    def matches(self, variant: str, seed: int, setting: str) -> Matches:
        """The matches behind one evaluation; read once.

        Raises:
            MissingResult: the matches file does not exist.
            ReportError: it is damaged, or its AP is not the one in the evaluation file beside it.
        """
        key = (variant, seed, setting)
        if key not in self._matches:
            row = self.evaluation(*key)
            file = self.root / row["source"]
            self._matches[key] = load_matches(
                EvaluationFolder(file.parent).matches(file.stem), row["AP"], row["source"]
            )
        return self._matches[key]

    @cached_property
    def _image_sets(self) -> tuple[tuple[int, ...], NDArray[np.int64]]:
        """The images of the first evaluation, and how often each occurs in each resample."""
        first = next(iter(self._evaluations))
        images = self.matches(*first).image_ids
        return images, draw_image_weights(len(images), self.resamples)

    def resampled(
        self, variant: str, seed: int, setting: str, category: int | None = None
    ) -> NDArray[np.float64] | None:
        """AP in [0, 1] by IoU threshold of one evaluation on resampled image sets, the same for every evaluation.

        Args:
            variant, seed, setting: of the evaluation.
            category: id of a class, for its AP alone.

        Returns:
            Float[B, T], computed once; None without resamples.

        Raises:
            MissingResult: the matches file does not exist.
            ReportError: it is damaged, or of other images than the first evaluation's.
        """
        if not self.resamples:
            return None
        key = (variant, seed, setting, category)
        if key not in self._resampled:
            matches = self.matches(variant, seed, setting)
            images, weights = self._image_sets
            if matches.image_ids != images:
                raise ReportError(f"{variant} seed{seed} {setting}: matches of other images than the others'")
            own = matches if category is None else matches.of_class(category)
            self._resampled[key] = average_precision(own, weights)
        return self._resampled[key]


def collect(
    suite: Suite,
    root: Path,
    variants: Sequence[str] | None = None,
    resamples: int | None = None,
    *,
    trainings_only: bool = False,
) -> Results:
    """Read the results of a suite.

    Args:
        suite: the suite; only its variants, seeds and settings are read, anything else in the folder is ignored.
        root: the results folder, `results/<suite>`.
        variants: read these variants only; all of the suite's by default.
        resamples: image sets behind the intervals of differences; 0 for none, None for the report's own number.
        trainings_only: leave evaluations, diagnostics and times out, whatever they are of.

    Returns:
        The frames. A run or evaluation that does not exist is no row; it is an error once a table asks for it.

    Raises:
        NotInSuite: one of `variants` is not in the suite.
        ReportError: a file is damaged or belongs elsewhere; the message names file and key.
        MissingResult: there is no results folder, or a run's history is missing.
    """
    if not root.is_dir():
        raise MissingResult(f"{root}: no such results folder")
    suite.require(*(variants or ()))
    dataset = _manifest(Layout(root))
    place = Place(suite, Layout(root), dataset)
    runs: list[dict[str, Any]] = []
    histories: list[pd.DataFrame] = []
    evaluations: list[dict[str, Any]] = []
    diagnostics: list[dict[str, Any]] = []
    for variant in suite.variants if variants is None else variants:
        for seed in suite.seeds:
            run = place.run(variant, seed)
            if run is None:
                continue
            runs.append(run)
            histories.append(place.history(variant, seed))
            if trainings_only:
                continue
            found = (place.evaluation(variant, seed, setting) for setting in suite.settings(variant))
            evaluations += [row for row in found if row is not None]
            diagnostics += [row for row in [place.diagnostics(variant, seed)] if row is not None]
    speeds = [] if trainings_only else place.speeds()
    mark_stale_evaluations(runs, [*evaluations, *diagnostics])
    mark_stale_speeds(evaluations, speeds)
    return Results(
        suite=suite,
        root=root,
        evaluations=pd.DataFrame(evaluations),
        runs=pd.DataFrame(runs),
        histories=pd.concat(histories, ignore_index=True) if histories else pd.DataFrame(),
        dataset=dataset,
        diagnostics=pd.DataFrame(diagnostics),
        speeds=pd.DataFrame(speeds),
        resamples=RESAMPLES if resamples is None else resamples,
    )


def _manifest(layout: Layout) -> Mapping[str, Any] | None:
    """What the images are; None without a manifest."""
    path = layout.data.manifest
    if not path.exists():
        return None
    dataset = read_json(path)
    need(dataset, "fingerprint", path)
    return dataset

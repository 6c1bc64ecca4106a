"""What AP depends on: among the training parameters, and between training, NMS guide and step size."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from sweeps import study as studies

QUANTILE, FEWEST = 0.25, 10  # PED-ANOVA asks what the best of the trials have in common


def importance(study: optuna.Study) -> dict[str, Any]:
    """Importance of the training parameters by PED-ANOVA, as shares; None where there are too few trials to tell."""
    with warnings.catch_warnings(action="ignore"):  # few trials: the number of them is reported
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=QUANTILE)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    trials = studies.counts(study)[TrialState.COMPLETE]
    known = trials >= FEWEST and all(np.isfinite(value) for value in shares.values()) and any(shares.values())
    return {
        "method": f"PED-ANOVA, best {100 * QUANTILE:g} % of at least {FEWEST} trials",
        "trials": trials,
        "parameters": dict(shares) if known else None,
    }


def variance_shares(profiles: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Shares of the variance of AP over trial x guide x step size: main effects, and what is left to interactions.

    The grid is complete and each cell has one value, so the sums of squares are exact.

    Args:
        profiles: the rows of profiles.csv.

    Returns:
        Shares by 'training', 'guide', 'step_size' and 'interactions'; None if AP does not vary.
    """
    axes = ("number", "guide", "step_size")
    values = {axis: list(dict.fromkeys(row[axis] for row in profiles)) for axis in axes}
    table = np.full([len(values[axis]) for axis in axes], np.nan)
    for row in profiles:
        table[tuple(values[axis].index(row[axis]) for axis in axes)] = row["AP"]
    deviation = table - table.mean()
    total = float((deviation**2).sum())
    if total == 0:
        return None
    shares = {}
    for position, name in enumerate(("training", "guide", "step_size")):
        effect = deviation.mean(axis=tuple(other for other in range(3) if other != position))
        shares[name] = float((effect**2).sum()) * deviation.size / len(effect) / total
    return {**shares, "interactions": max(0.0, 1 - sum(shares.values()))}

"""The catalogue of figures: each is made by its key, with its data, and drawn."""

import pytest

from reports.context import Context
from reports.figures.catalogue import FIGURES
from reports.figures.style import styled
from reports.results.published import load_published
from suite.errors import NotInSuite


@pytest.mark.parametrize("key", FIGURES)
def test_each_figure_has_its_key_and_says_what_it_shows(results, searched, sweep, key):
    # `searched` has no timed inference, `results` no search
    context = Context(searched if key.startswith("sweep_") else results, load_published(), sweep)
    figure = FIGURES[key].make(context)
    assert figure.key == key
    assert figure.title
    assert figure.caption.endswith(".") and figure.alt.endswith(".")
    assert (figure.frame is None) == key.startswith("samples")
    assert figure.raster == (figure.frame is None or key == "nms")


@pytest.mark.parametrize("key", [key for key in FIGURES if key.startswith("sweep_")])
def test_figures_of_the_search_are_drawn(searched, sweep, key, tmp_path):
    with styled():
        FIGURES[key].make(Context(searched, {}, sweep)).draw().savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").stat().st_size > 2000


def test_without_a_search_it_has_no_figures(results):
    with pytest.raises(NotInSuite, match="no finished search"):
        FIGURES["sweep_history"].make(Context(results, {}))

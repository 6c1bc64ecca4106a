from reports.figures import improvement
from reports.figures.style import VARIANT_COLOURS, colours, save, styled
from reports.results.published import load_published


def test_files_are_deterministic(results, tmp_path):
    frame = improvement.frame(results, load_published())
    written = []
    for name in ("one", "two"):
        with styled():
            figure = improvement.draw(frame)
        written.append([path.read_bytes() for path in save(figure, tmp_path / name, dpi=60)])
    assert written[0] == written[1]
    assert b"<dc:date>" not in written[0][1]


def test_colours_are_distinct_and_stable():
    palette = colours(["faster_rcnn", "samp1000_lw5.0", "mine", "yours"])
    assert len(set(palette.values())) == 4
    assert palette["samp1000_lw5.0"] == colours(["samp1000_lw5.0"])["samp1000_lw5.0"]


def test_a_published_variants_colour_is_not_given_to_another():
    palette = colours([*VARIANT_COLOURS, "mine", "yours"])
    assert len(set(palette.values())) == len(palette)


def test_colours_come_round_again():
    palette = colours([f"mine{number}" for number in range(20)])
    assert len(palette) == 20

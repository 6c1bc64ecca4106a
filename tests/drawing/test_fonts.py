"""Text that the figures' own font lacks: drawn in a font that has it where one is installed, told where none is."""

import warnings

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from drawing import fonts
from reports.figures.style import panels, save, styled

CHINESE, KOREAN = "中文", "한"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs made-up fonts, and nothing else beside those of matplotlib; forgets what was told."""
    own = [face for face in font_manager.fontManager.ttflist if "matplotlib" in face.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(fonts, "_told", set())
    paths = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)

    def install(family, characters):
        paths.append(str(made_font(tmp_path / f"{family}.ttf", family, characters)))

    return install


def made_font(path, family, characters):
    """A font with a triangle for each character."""
    pen = TTGlyphPen(None)
    for number, point in enumerate([(0, 0), (500, 0), (250, 700)]):
        (pen.lineTo if number else pen.moveTo)(point)
    pen.closePath()
    characters = list(dict.fromkeys(characters))
    triangle, names = pen.glyph(), [f"uni{ord(character):04X}" for character in characters]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap({ord(character): name for character, name in zip(characters, names, strict=True)})
    builder.setupGlyf(dict.fromkeys([".notdef", *names], triangle))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return path


def drawn(folder, text):
    """The bytes of a figure with a legend, as PNG."""
    with styled():
        figure, (panel,) = panels(1, width=3, height=2)
        panel.plot([0, 1], [0, 1], label=text)
        panel.legend()
    png, svg = save(figure, folder / "figure", dpi=60)
    assert svg.is_file()
    return png.read_bytes()


def test_a_font_that_has_the_text_is_used_and_nothing_is_said(installed, tmp_path, capsys):
    boxes = drawn(tmp_path, CHINESE)
    capsys.readouterr()
    installed("Some Font", CHINESE)
    with warnings.catch_warnings(action="error"):
        assert drawn(tmp_path, CHINESE) != boxes
    assert capsys.readouterr().err == ""


def test_what_no_font_has_is_told_once_with_the_package(installed, tmp_path, capsys):
    installed("Some Font", CHINESE)
    with warnings.catch_warnings(action="error"):
        for _ in range(2):
            drawn(tmp_path, f"{CHINESE} {KOREAN} 🚲 ܐ")
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"no installed font has ܐ, {KOREAN}, 🚲: drawn as boxes." in told
    assert "fonts-noto-cjk and fonts-noto-core and fonts-symbola" in told and CHINESE[0] not in told


def test_text_that_the_own_font_has_is_drawn_as_ever(installed, tmp_path):
    text = "circle, Dreieck é, λ, круг"
    without = drawn(tmp_path, text)
    installed("Some Font", text)
    assert drawn(tmp_path, text) == without


def test_as_few_fonts_as_do(installed):
    installed("A", CHINESE[0])
    installed("B", CHINESE)
    installed("C", KOREAN)
    assert fonts.covering({*CHINESE, KOREAN}) == ["B", "C"]
    assert fonts.covering({"ܐ"}) == []


def test_a_damaged_font_is_passed_over(installed, tmp_path, monkeypatch):
    (tmp_path / "torn.ttf").write_bytes(b"\0\1\0\0torn")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "torn.ttf")])
    assert fonts.covering({CHINESE[0]}) == []

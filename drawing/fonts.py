"""Text that a figure's own font lacks, as Chinese, is drawn in whatever installed font has it; none is required."""

from __future__ import annotations

import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

PREFERRED = "Noto Sans CJK SC"  # of families that have equally many of the characters
PLACEHOLDERS = "Last Resort"  # matplotlib's font of boxes, which has everything
LACKING = re.compile(r"Glyph (\d+) .* missing from font")  # as matplotlib warns
EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC", "FULLWIDTH")  # what names in Unicode begin with
_told: set[str] = set()


def write_in_installed_fonts(figure: Figure, write: Callable[[], None]) -> None:
    """Writes a figure; says once in a process which characters are drawn as boxes, for want of a font.

    Args:
        figure: its texts get more fonts if they need them.
        write: writes it.
    """
    lacking = _written_without(write)
    if lacking and (families := covering(lacking)):
        for text in figure.findobj(Text):
            if lacking & set(text.get_text()):
                text.set_fontfamily([*text.get_fontfamily(), *families])
        lacking = _written_without(write)
    if untold := sorted(lacking - _told):
        _told.update(untold)
        print(
            f"figures: no installed font has {', '.join(untold)}: drawn as boxes. Install one that has, as Debian's "
            f"{' and '.join(packages(untold))}, and write the report again (snakemake all --forcerun build_report)",
            file=sys.stderr,
        )


def covering(characters: Collection[str]) -> list[str]:
    """Installed families that have as many of the characters as can be had, the one that has most first."""
    _notice_new_fonts()
    has: dict[str, set[str]] = {}
    faces = font_manager.fontManager.ttflist
    for face in sorted(faces, key=lambda f: (f.name != PREFERRED, f.name, f.style != "normal", f.weight != 400)):
        if face.name not in has and not face.name.startswith(PLACEHOLDERS):  # its regular face speaks for the family
            has[face.name] = _characters_of(face, characters)
    left, families = set(characters), []
    while left and (best := max(has, key=lambda name: len(has[name] & left))) and has[best] & left:
        families.append(best)
        left -= has[best]
    return families


def packages(characters: Iterable[str]) -> list[str]:
    """Debian's packages of fonts that have such characters."""
    names = set()
    for character in characters:
        if unicodedata.name(character, "").startswith(EAST_ASIAN):
            names.add("fonts-noto-cjk")
        else:
            names.add("fonts-symbola" if unicodedata.category(character) == "So" else "fonts-noto-core")
    return sorted(names)


def _written_without(write: Callable[[], None]) -> set[str]:
    """Writes, and returns the characters for which there was no glyph."""
    lacking = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write()
    for entry in caught:
        if found := LACKING.match(str(entry.message)):
            lacking.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(entry.message, entry.category, entry.filename, entry.lineno)
    return lacking


def _notice_new_fonts() -> None:
    """Matplotlib's list of fonts is as old as its cache."""
    known = {face.fname for face in font_manager.fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - known):
        with suppress(Exception):  # of many kinds: a font of bitmaps, a damaged file
            font_manager.fontManager.addfont(path)


def _characters_of(face: font_manager.FontEntry, characters: Collection[str]) -> set[str]:
    try:
        font = FT2Font(face.fname, face_index=face.index)
        return {character for character in characters if font.get_char_index(ord(character))}
    except (OSError, RuntimeError):  # it is gone, or damaged
        return set()

"""The report as a list of blocks, whatever it is rendered to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from reports.context import Context
from reports.figures.figure import Illustration
from reports.tables.table import Table


@dataclass(frozen=True)
class Heading:
    """A section's heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Text with inline markdown; `aside` sets it off from the rest."""

    text: str
    aside: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list of lines with inline markdown."""

    items: Sequence[str]


@dataclass(frozen=True)
class TableBlock:
    """A numbered table."""

    table: Table
    number: int


@dataclass(frozen=True)
class FigureBlock:
    """A numbered figure."""

    illustration: Illustration
    number: int


Block = Heading | Paragraph | Bullets | TableBlock | FigureBlock


@dataclass
class Report:
    """Blocks in order, and what they were made from."""

    context: Context
    blocks: list[Block] = field(default_factory=list)

    @property
    def tables(self) -> list[Table]:
        """All tables, in order."""
        return [block.table for block in self.blocks if isinstance(block, TableBlock)]

    @property
    def illustrations(self) -> list[Illustration]:
        """All figures, in order."""
        return [block.illustration for block in self.blocks if isinstance(block, FigureBlock)]

    def add(self, *parts: Heading | Paragraph | Bullets | Table | Illustration) -> None:
        """Append blocks; a table or figure gets the next number."""
        for part in parts:
            if isinstance(part, Table):
                self.blocks.append(TableBlock(part, len(self.tables) + 1))
            elif isinstance(part, Illustration):
                self.blocks.append(FigureBlock(part, len(self.illustrations) + 1))
            else:
                self.blocks.append(part)

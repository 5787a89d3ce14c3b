"""Fills pages with blocks of unlike heights, as figures are placed in print."""

import math
from collections.abc import Sequence
from typing import Any

#: An image that does not fit may be drawn at this share of its size.
SMALLEST = 0.68


def full_pages(begins: list[Any], blocks: list[list[Any]]) -> Any:
    """A flowable of ``blocks`` (each a list of ReportLab's flowables), none of which is broken.

    Each page, and what is left of the first, gets those that fill it best, in their order. Where none fits, but the first nearly
    does, its image is drawn smaller. ``begins``, the heading of their section or nothing, stands before the first that is placed.
    """
    from reportlab.platypus.flowables import Flowable

    class FullPages(Flowable):  # type: ignore[misc]
        def __init__(self, begins: list[Any], blocks: list[list[Any]]):
            super().__init__()
            self.begins, self.blocks = begins, blocks

        def wrap(self, width: float, height: float) -> tuple[float, float]:
            # More than any page has: it is always split, into what fits and what does not.
            return width, height + 1

        def split(self, width: float, height: float) -> list[Any]:
            room = height - _height(self.begins, width)
            chosen = fullest([_height(block, width) for block in self.blocks], room)
            if not chosen and not _shrink(self.blocks[0], width, room):
                return []
            chosen = chosen or [0]
            placed = [*self.begins, *(flowable for i in chosen for flowable in self.blocks[i])]
            rest = [block for i, block in enumerate(self.blocks) if i not in chosen]
            return [*placed, FullPages([], rest)] if rest else placed

    return FullPages(begins, blocks)


def fullest(heights: Sequence[float], room: float) -> list[int]:
    """Which of ``heights`` together come nearest to ``room`` without exceeding it, in ascending order; earlier ones if alike."""
    # By the sum in whole points: the choice that is lexicographically first.
    found: dict[int, list[int]] = {0: []}
    for index in range(len(heights) - 1, -1, -1):
        height = math.ceil(heights[index])
        added = {used + height: [index, *chosen] for used, chosen in found.items() if used + height <= room}
        found = found | added
    return found[max(found)]


def _shrink(block: list[Any], width: float, room: float) -> bool:
    """Make the image of ``block`` as small as fits into ``room``; whether it is at least :data:`SMALLEST` of its size then."""
    from reportlab.platypus import Image

    for each in block:
        if isinstance(each, Image):
            # A point less, for rounding.
            share = 1.0 - (_height(block, width) - room + 1.0) / each.drawHeight
            if share >= SMALLEST:
                each.drawWidth, each.drawHeight = share * each.drawWidth, share * each.drawHeight
                return True
    return False


def _height(block: list[Any], width: float) -> float:
    return float(sum(each.wrap(width, 10_000)[1] + each.getSpaceBefore() + each.getSpaceAfter() for each in block))

"""Fills pages with blocks of unlike heights, as figures are placed in print."""

from typing import Any


def first_fit(blocks: list[list[Any]]) -> Any:
    """A flowable of ``blocks`` (each a list of ReportLab's flowables), none of which is broken.

    The first, which may begin a section, is placed first. What is left of a page is then filled with those that fit, in
    their order; the others follow on the next page.
    """
    from reportlab.platypus.flowables import Flowable

    class FirstFit(Flowable):  # type: ignore[misc]
        def __init__(self, blocks: list[list[Any]]):
            super().__init__()
            self.blocks = blocks

        def wrap(self, width: float, height: float) -> tuple[float, float]:
            # More than any page has: it is always split, into what fits and what does not.
            return width, height + 1

        def split(self, width: float, height: float) -> list[Any]:
            if _height(self.blocks[0], width) > height:
                return []
            placed: list[Any] = []
            rest = []
            for block in self.blocks:
                needed = _height(block, width)
                if needed <= height:
                    placed += block
                    height -= needed
                else:
                    rest.append(block)
            return [*placed, FirstFit(rest)] if rest else placed

    return FirstFit(blocks)


def _height(block: list[Any], width: float) -> float:
    return float(sum(each.wrap(width, 10_000)[1] + each.getSpaceBefore() + each.getSpaceAfter() for each in block))

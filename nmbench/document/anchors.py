"""The anchors that GitHub gives the headings of a markdown page: `Anchors`."""

import re
from collections.abc import Iterable

from nmbench.document.words import unused


class Anchors:
    """Hands out one anchor a heading, in the order of the page: a title that came before gets a number."""

    def __init__(self, titles: Iterable[str] = ()) -> None:
        self._taken: set[str] = set()
        for title in titles:
            self.add(title)

    def add(self, title: str) -> str:
        """The anchor of the next heading, whose text is `title`."""
        stem = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        anchor = unused(stem, self._taken, 1)
        self._taken.add(anchor)
        return anchor

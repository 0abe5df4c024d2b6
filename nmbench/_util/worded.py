"""Texts that stand for something, with words about it."""

from enum import StrEnum
from typing import Self


class Worded(StrEnum):
    """`NAME = value, words`: a member is its value, a text, and has words for people."""

    words: str

    def __new__(cls, value: str, words: str = "") -> Self:
        """The value alone tells a member."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.words = words
        return member

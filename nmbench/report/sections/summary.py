"""A setting in words: `described`; `describe` is the same as inline markdown."""

from __future__ import annotations

from nmbench.analysis.rows import Setting
from nmbench.document.words import label, text

__all__ = ["describe", "described"]


def describe(setting: Setting) -> str:
    """`described` as inline markdown."""
    return text(described(setting))


def described(setting: Setting) -> str:
    """Model and scale, then the settings that are not the scale's own; plain text."""
    parts = [setting.model, f"scale {setting.scale}"]
    if setting.train != "{}":
        parts.append(f"training {label('', setting.train).strip(' ()')}")
    if setting.init:
        parts.append(f"initial weights {setting.init}")
    return ", ".join(parts)

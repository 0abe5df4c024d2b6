"""Machine translation: fairseq's Transformer, on English to German phrases or a corpus of the user's."""

from nmbench_tasks.translation.task import Translation

__all__ = ["Translation"]

"""How torch's allocators say that there is no memory left."""

from __future__ import annotations

__all__ = ["says_no_memory"]

# On the systems that torch runs on.
WORDS = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc")


def says_no_memory(text: str) -> bool:
    """Whether the text of an error says so.

    Example:
        >>> says_no_memory("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        True
    """
    return any(words in text for words in WORDS)

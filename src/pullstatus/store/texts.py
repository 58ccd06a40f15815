"""Texts as engines store them: any text, lone surrogates included, each as bytes of its own."""

from __future__ import annotations


def encoded(text: str) -> bytes:
    """A text as it is stored."""
    return text.encode("utf-8", "surrogatepass")


def decoded(stored: bytes) -> str:
    """A text that was stored."""
    return stored.decode("utf-8", "surrogatepass")

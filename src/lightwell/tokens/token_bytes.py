"""What bytes of text each token stands for: for decoding, for bits per byte, and for showing a token."""

from __future__ import annotations

import re
from typing import Any

HALF = 0x100
"""Where the byte-level alphabet puts the bytes that have no visible character of their own."""


def byte_alphabet() -> dict[str, int]:
    """Return character to byte in GPT-2's byte-level alphabet (Radford et al. 2019).

    Visible Latin-1 characters stand for their own byte; the 68 others follow from U+0100 on, in the order of the bytes.
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(HALF + i): byte for i, byte in enumerate(hidden)}


def token_bytes(tokens: list[str], added: set[str], spec: dict[str, Any]) -> tuple[list[bytes], bool]:
    """Return the bytes of each token, and whether joining them is all that the tokenizer's decoder does.

    Args:
        tokens: (V,) the tokens as the vocabulary spells them, "" where an id is not used.
        added: those of them that stand for themselves, e.g. <|endoftext|>.
        spec: the tokenizer.json.
    """
    names = decoder_names(spec)
    if names == ["ByteLevel"]:
        alphabet = byte_alphabet()
        return [_byte_level(token, alphabet, token in added) for token in tokens], True
    pieces = [token.encode() if token in added else _piece(token, names) for token in tokens]
    return pieces, names == ["ByteFallback", "Fuse"]


def decoder_names(spec: dict[str, Any]) -> list[str]:
    """Return the types of the decoder's steps, e.g. ["ByteFallback", "Fuse"]."""
    decoder = spec.get("decoder") or {}
    steps = decoder.get("decoders", [decoder]) if decoder else []
    return [step["type"] for step in steps]


def fallback_byte(token: str) -> int | None:
    """Return the byte that a token like <0x0A> stands for, or None for every other token."""
    match = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", token)
    return int(match[1], 16) if match else None


def _byte_level(token: str, alphabet: dict[str, int], is_added: bool) -> bytes:
    if is_added:
        return token.encode()
    try:
        return bytes([alphabet[character] for character in token])
    except KeyError:  # the library's decoder, too, then takes the token as it is spelt
        return token.encode()


def _piece(token: str, decoder: list[str]) -> bytes:
    """Return the bytes of a token of SentencePiece or WordPiece, whose marks stand for spaces or for their absence."""
    byte = fallback_byte(token) if "ByteFallback" in decoder else None
    if byte is not None:
        return bytes([byte])
    if "WordPiece" in decoder:
        return token[2:].encode() if token.startswith("##") else f" {token}".encode()
    if "Metaspace" in decoder or "Replace" in decoder:
        return token.replace("▁", " ").encode()
    return token.encode()

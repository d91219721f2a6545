"""XMP packets without what no longer holds: the orientation, and what announces left-out data.

[XMP] ISO 16684-1. Properties are cut out of the bytes, as attributes and as elements, and all else
stays as it was; a packet is not parsed, as broken ones must pass too. Every pattern takes time
linear in the length: packets come from untrusted files.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Stale(NamedTuple):
    """Properties of a namespace, by its usual prefix, and the data that they announce if any."""

    uri: bytes
    prefix: bytes
    names: bytes  # regular expression
    data: str = ""


STALE = (
    Stale(b"http://ns.adobe.com/tiff/1.0/", b"tiff", b"Orientation"),
    Stale(b"http://ns.adobe.com/hdr-gain-map/1.0/", b"hdrgm", rb"[\w.-]+", "gain map"),
    Stale(b"http://ns.apple.com/HDRGainMap/1.0/", b"HDRGainMap", rb"[\w.-]+", "gain map"),
    # the list of the pictures and videos that are appended to a JPEG file
    Stale(b"http://ns.google.com/photos/1.0/container/", b"Container", b"Directory"),
    Stale(
        b"http://ns.google.com/photos/1.0/camera/",
        b"GCamera",
        rb"(?:MotionPhoto|MicroVideo)\w*",
        "video",
    ),
    Stale(b"http://ns.adobe.com/xmp/note/", b"xmpNote", b"HasExtendedXMP", "extended XMP"),
)
CONTAINER_ITEM = b"http://ns.google.com/photos/1.0/container/item/"


def without_stale(xmp: bytes) -> tuple[bytes, tuple[str, ...]]:
    """(The packet without stale properties, which data they announced)."""
    announced = []
    for stale in STALE:
        for prefix in _prefixes(xmp, stale.uri) | {stale.prefix}:
            shorter = _without(xmp, re.escape(prefix) + b":" + stale.names)
            if len(shorter) < len(xmp):
                announced.append(stale.data)
                xmp = _without_declaration(shorter, stale.uri)
    xmp = _without_declaration(xmp, CONTAINER_ITEM)
    return xmp, tuple(data for data in dict.fromkeys(announced) if data)


def _prefixes(xmp: bytes, uri: bytes) -> set[bytes]:
    return set(re.findall(rb"xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(uri) + rb"[\"']", xmp))


def _without(xmp: bytes, name: bytes) -> bytes:
    """The packet without attributes and elements of a name, a regular expression."""
    xmp = re.sub(rb"\s" + name + rb"\s*=\s*(?:\"[^\"<]*\"|'[^'<]*')", b"", xmp)
    opening = re.compile(rb"<(" + name + rb")(?=[\s/>])[^<>]*>")
    kept, start = [], 0
    while (match := opening.search(xmp, start)) is not None:
        end = match.end()
        if not match[0].endswith(b"/>"):
            closing = b"</" + match[1] + b">"
            end = xmp.find(closing, end) + len(closing)
            if end < match.end():
                break  # not well-formed: the rest stays
        kept.append(xmp[start : match.start()])
        start = end
    return b"".join([*kept, xmp[start:]])


def _without_declaration(xmp: bytes, uri: bytes) -> bytes:
    """The packet without a declaration of the namespace that nothing uses."""
    for prefix in _prefixes(xmp, uri):
        name = re.escape(prefix)
        if re.search(rb"[<\s/]" + name + b":", xmp) is None:
            xmp = re.sub(rb"\sxmlns:" + name + rb"\s*=\s*(?:\"[^\"<]*\"|'[^'<]*')", b"", xmp)
    return xmp

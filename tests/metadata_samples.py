"""EXIF blocks, TIFF files and XMP for tests, made field by field as Pillow would not."""

from __future__ import annotations

import io

from PIL import Image

from mambaic.imaging.exif import EXIF, GPS, INTEROP, PREFIX
from mambaic.imaging.tiff_directory import Field, header, write

ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 2, 3, 4, 5, 7
ARTIST = "Jürgen\0".encode()  # UTF-8 in an ASCII tag, as cameras write it
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description'
    b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Make="m" %s/></rdf:RDF></x:xmpmeta>'
)
GAIN_MAP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description rdf:about=""
 xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:C="http://ns.google.com/photos/1.0/container/"
 xmlns:Item="http://ns.google.com/photos/1.0/container/item/"
 hdrgm:Version="1.0" xmp:Rating="3"><hdrgm:GainMapMax><rdf:Seq><rdf:li>2</rdf:li></rdf:Seq>
</hdrgm:GainMapMax><C:Directory><rdf:Seq><rdf:li rdf:parseType="Resource">
<C:Item Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="2345"/></rdf:li></rdf:Seq>
</C:Directory></rdf:Description></rdf:RDF></x:xmpmeta>"""
NOTES = b"NOTE\x2a\0private\0data" * 3


def numbers(kind, *values, order="little"):
    size = {SHORT: 2, LONG: 4, RATIONAL: 4}[kind]
    return Field(kind, b"".join(value.to_bytes(size, order) for value in values))


def camera_fields(order="little", orientation=6, size=(64, 48)):
    """Directory of a photograph with everything that writers bend."""
    one = {"order": order}
    exif = {
        0x829A: numbers(RATIONAL, 1, 60, **one),
        0x9000: Field(UNDEFINED, b"0232"),
        0x927C: Field(UNDEFINED, NOTES),
        0x9286: Field(UNDEFINED, b"UNICODE\0h\0i\0"),
        0xA002: numbers(LONG, size[0], **one),
        0xA003: numbers(SHORT, size[1], **one),
        INTEROP: {1: Field(ASCII, b"R98\0"), 2: Field(UNDEFINED, b"0100")},
        0xA301: Field(UNDEFINED, b"\1"),
    }
    gps = {
        0: Field(1, b"\2\3\0\0"),
        1: Field(ASCII, b"N\0"),
        2: numbers(RATIONAL, *[7, 1] * 3, **one),
    }
    return {
        0x010F: Field(ASCII, b"maker\0"),
        0x0112: numbers(SHORT, orientation, **one),
        0x011A: numbers(RATIONAL, 300, 1, **one),
        0x0128: numbers(SHORT, 2, **one),
        0x013B: Field(ASCII, ARTIST),
        EXIF: exif,
        GPS: gps,
    }


def block(fields, order="little", thumbnail=b""):
    """An EXIF block; ``thumbnail`` is JPEG data for IFD1."""
    data = bytearray(header(order, 8) + write(fields, 8, order))
    if thumbnail:
        at = len(data)
        link = 8 + 2 + 12 * len(fields)
        data[link : link + 4] = at.to_bytes(4, order)
        ifd1 = {0x0201: numbers(LONG, at + 30, order=order)}
        ifd1[0x0202] = numbers(LONG, len(thumbnail), order=order)
        data += write(ifd1, at, order) + thumbnail
    return PREFIX + bytes(data)


def saved(image, fmt, **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def tiff(image, extra, order="little", big=False):
    """A TIFF of an RGB image with extra fields in its directory."""
    rows = image.tobytes()
    layout = {
        256: numbers(LONG, image.width, order=order),
        257: numbers(LONG, image.height, order=order),
        258: numbers(SHORT, 8, 8, 8, order=order),
        259: numbers(SHORT, 1, order=order),
        262: numbers(SHORT, 2, order=order),
        277: numbers(SHORT, 3, order=order),
        278: numbers(LONG, image.height, order=order),
        279: numbers(LONG, len(rows), order=order),
    }
    start = 16 if big else 8
    layout[273] = numbers(LONG, start, order=order)
    fields = {**extra, **layout}
    at = start + len(rows)
    if not big:
        return header(order, at) + rows + write(fields, at, order)
    assert all(isinstance(field, Field) for field in fields.values())
    number = lambda value, size: value.to_bytes(size, order)  # noqa: E731
    magic = (b"II+\0" if order == "little" else b"MM\0+") + number(8, 2) + number(0, 2)
    table, values = number(len(fields), 8), b""
    values_at = at + 8 + 20 * len(fields) + 8
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 16: 8}
    for tag, (kind, data) in sorted(fields.items()):
        place = data.ljust(8, b"\0")
        if len(data) > 8:
            place = number(values_at + len(values), 8)
            values += data
        count = number(len(data) // sizes[kind], 8)
        table += number(tag, 2) + number(kind, 2) + count + place
    return magic + number(at, 8) + rows + table + number(0, 8) + values


def opened(data):
    return Image.open(io.BytesIO(data))

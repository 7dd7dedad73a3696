"""Bytes as a Word document: damage of the archive, and damage of the XML in a good archive."""

from __future__ import annotations

import io
import zipfile
from functools import cache

from fuzz_frame import Target
from parsed_promises import check_parser

from odqa.ingest.parsers import PARSERS

PART = "word/document.xml"
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
R = "http://schemas.openxmlformats.org"
OFFICE = "application/vnd.openxmlformats-officedocument.wordprocessingml"
PACKAGE = "application/vnd.openxmlformats-package"
RELATION = f"{R}/officeDocument/2006/relationships"
BODY = (
    f'<w:document {W}><w:body><w:p><w:pPr><w:pStyle w:val="H"/></w:pPr><w:r><w:t>Head</w:t></w:r></w:p>'
    "<w:p><w:r><w:t>One</w:t><w:tab/><w:br/></w:r><w:hyperlink><w:r><w:t>two</w:t></w:r></w:hyperlink></w:p>"
    "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>cell</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    '<w:p><w:pPr><w:numPr/><w:outlineLvl w:val="2"/></w:pPr><w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
    "</w:body></w:document>"
)
# The least that python-docx takes for a document, with a style for headings and a footnote.
PARTS = {
    "[Content_Types].xml": (
        f'<Types xmlns="{R}/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/>'
        f'<Default Extension="rels" ContentType="{PACKAGE}.relationships+xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{OFFICE}.document.main+xml"/>'
        f'<Override PartName="/word/styles.xml" ContentType="{OFFICE}.styles+xml"/>'
        f'<Override PartName="/docProps/core.xml" ContentType="{PACKAGE}.core-properties+xml"/>'
        "</Types>"
    ),
    "_rels/.rels": (
        f'<Relationships xmlns="{R}/package/2006/relationships">'
        f'<Relationship Id="a" Type="{RELATION}/officeDocument" Target="word/document.xml"/>'
        f'<Relationship Id="b" Type="{R}/package/2006/relationships/metadata/core-properties" '
        'Target="docProps/core.xml"/>'
        "</Relationships>"
    ),
    "word/_rels/document.xml.rels": (
        f'<Relationships xmlns="{R}/package/2006/relationships">'
        f'<Relationship Id="a" Type="{RELATION}/styles" Target="styles.xml"/>'
        f'<Relationship Id="b" Type="{RELATION}/footnotes" Target="footnotes.xml"/>'
        "</Relationships>"
    ),
    "word/styles.xml": f'<w:styles {W}><w:style w:styleId="H"><w:name w:val="heading 1"/></w:style></w:styles>',
    "word/footnotes.xml": (
        f'<w:footnotes {W}><w:footnote w:id="2"><w:p><w:r><w:t>Note</w:t></w:r></w:p></w:footnote></w:footnotes>'
    ),
    "docProps/core.xml": (
        f'<cp:coreProperties xmlns:cp="{R}/package/2006/metadata/core-properties" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>A title</dc:title></cp:coreProperties>'
    ),
}


@cache
def archive(part: bytes = BODY.encode()) -> bytes:
    """Make a document; `part` is its main XML."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name, content in PARTS.items():
            made.writestr(zipfile.ZipInfo(name), content)
        made.writestr(zipfile.ZipInfo(PART), part, compress_type=zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def check(data: bytes) -> None:
    parse = PARSERS[".docx"]
    if data.startswith(b"PK"):
        check_parser(parse, data)
    else:
        check_parser(parse, archive.__wrapped__(data))


TARGET = Target(
    "docx",
    check,
    lambda: [archive(), BODY.encode(), b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e "x">]>' + BODY.encode()],
    tokens=tuple(
        b"<w:p> </w:p> <w:r> </w:r> <w:t> </w:t> <w:tbl> <w:tr> <w:tc> <w:sdt> <w:sdtContent> <w:del> <w:txbxContent> "
        b"<w:pPr> <w:outlineLvl w:val='9'/> <w:footnoteReference/> &e; <!ENTITY <!DOCTYPE SYSTEM <![CDATA[ ]]> "
        b"<!-- --> PK\x03\x04 PK\x01\x02 PK\x05\x06 \xff\xff\xff\xff &#0; &#xD800; &#xFFFE; xmlns:w='' "
        b"w:val='\xc2\xb2'".split()
    ),
)

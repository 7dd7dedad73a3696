"""Bytes as a page, after they became text: `txt` throws at that."""

from __future__ import annotations

from fuzz_frame import Target
from parsed_promises import check_parser

from odqa.ingest import html

PAGE = b"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Gulls</title></head><body>
<nav>Home</nav><main><h1>Gulls</h1><p>The gull <b>steals</b>.<br>Often&nbsp;&eacute;</p>
<table><tr><th>a</th><td>b</td></tr><tr><td rowspan=2>c</td></tr></table><pre> x
 y</pre><ul><li>one<li>two</ul><article hidden>h</article></main><footer>f</footer></body></html>"""
XHTML = b"""<?xml version="1.0" encoding="iso-8859-1"?><!DOCTYPE html [<!ENTITY a "b">]>
<html xmlns="http://www.w3.org/1999/xhtml"><head><script src="x"/><title>T</title></head><body><p>&a; &#228;</p></body>
</html>"""


def check(data: bytes) -> None:
    assert html.declared_charset(data).isascii()
    check_parser(lambda data: html.parse(data.decode("utf-8", "replace").replace("\0", "")), data)


TARGET = Target(
    "html",
    check,
    lambda: [PAGE, XHTML, "<p>Жук</p>".encode("utf-16"), b"<h1>a<h2>b<h3>c"],
    tokens=tuple(
        b"<table> <tr> <td> </table> <h1> </h1> <pre> </pre> <p> <br/> <main> <article> <nav> <header> <li> <script> "
        b"</script> <style> <template> <svg> <math> <select> <textarea> <!-- --> <![CDATA[ ]]> <?xml <meta charset= "
        b"utf-16 encoding=' &amp; &#xD800; &#0; &#x10FFFF; &#xFFFE; hidden role=main style=display:none "
        b"<a>\xc2\xb6</a> xmlns='http://www.w3.org/1999/xhtml' <plaintext> <frameset> <form> <title> "
        b"</title> <head> </body>".split()
    ),
)

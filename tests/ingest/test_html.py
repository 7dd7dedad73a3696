from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_files import load_file, reason_of

from odqa.errors import IngestError
from odqa.ingest import html

PAGE = """<!DOCTYPE html><html><head><title> The
 title </title><style>p { color: red }</style></head><body>
<nav><a href="/">Home</a> | <a href="/about">About</a></nav>
<header>Site name</header>
<h1>First <em>heading</em><a href="#x">¶</a></h1>
<p>One  <b>bo</b>ld&nbsp;word &amp; a<br>line&shy;break.</p><script>alert("x")</script>
<ul><li>item one</li><li>item <i>two</i></li></ul>
<h2>Second</h2>
<table><tr><th>Name</th><th>Age</th></tr><tr><td><p>Ann</p></td><td>37</td></tr><tr><td></td><td> </td></tr></table>
<pre>
x = 1
  y = 2
</pre>
<div hidden>not seen</div><div style="display: none">nor this</div><noscript>nor that</noscript>
<div>tail</div>
<footer>Imprint</footer></body></html>"""


def test_a_page() -> None:
    parsed = html.parse(PAGE)
    assert parsed.title == "The title"
    assert parsed.text == (
        "First heading\n\nOne bold\u00a0word & a\nlinebreak.\n\nitem one\nitem two\n\n"
        "Second\n\nName | Age\nAnn | 37\n\nx = 1\n  y = 2\n\ntail"
    )
    assert [(section.heading, section.span.of(parsed.text)[:10]) for section in parsed.sections] == [
        ("First heading", "First head"),
        ("Second", "Second\n\nNa"),
    ]
    assert parsed.sections[0].span.end == parsed.sections[1].span.start
    assert parsed.sections[1].span.end == len(parsed.text)


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>a</p><p>b</p>", "a\n\nb"),
        ("plain words only", "plain words only"),
        ("<p>no<i>t</i> separated, <b>but</b> <i>this</i></p>", "not separated, but this"),
        ("one<br>two<br><br>three", "one\ntwo\n\nthree"),
        ("<nav>only navigation</nav>", "only navigation"),
        ("<div hidden>only hidden</div>", "only hidden"),
        ("<div>side</div><main><header>Headline</header><p>the content</p></main>", "Headline\n\nthe content"),
        ("<div>x</div><article>long enough</article><article>second</article>", "long enough\n\nsecond"),
        ("<div>a page of many words that are not</div><main></main>", "a page of many words that are not"),
        ("<table><tr><td><table><tr><td>in</td><td>ner</td></tr></table></td></tr></table><p>x", "in | ner\n\nx"),
        ("<table><tr><td>" + "long " * 101 + "</td></tr></table>", ("long " * 101).strip()),
        ("<ruby>漢<rt>かん</rt>字<rt>じ</rt></ruby>", "漢字"),
        ("<p>3 &lt; 4 &eacute; &#8212; &#x1F600;</p>", "3 < 4 é — 😀"),
        ("<pre>a\r\nb\n\n  c</pre>d", "a\nb\n\n  c\n\nd"),
        ("<textarea>form</textarea><select><option>a</option></select>text", "text"),
        ("<p>a<!-- comment -->b<?pi x?>c</p>", "abc"),
    ],
)
def test_small_pages(page: str, text: str) -> None:
    assert html.parse(page).text == text


def test_the_first_h1_is_the_title_of_a_page_without_one() -> None:
    assert html.parse("<h2>Second</h2><h1>The <i>first</i></h1><p>x").title == "The first"


def test_xhtml_may_close_a_script_in_its_own_tag(tmp_path: Path) -> None:
    page = (
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html>\n'
        '<html xmlns="http://www.w3.org/1999/xhtml"><head><title/><script src="x.js"/></head>'
        "<body><p>é is seen</p></body></html>"
    )
    document = load_file(tmp_path, "a-page.xhtml", page)
    assert (document.title, document.text) == ("a page", "é is seen")


@pytest.mark.parametrize(
    ("declared", "actual"),
    [("windows-1256", "cp1256"), ("utf-8", "cp1256"), ("windows-1252", "utf-8"), ("iso-8859-6", "utf-16")],
)
def test_a_misleading_charset_does_no_harm(tmp_path: Path, declared: str, actual: str) -> None:
    text = "اللغة العربية هي واحدة من أكثر اللغات انتشارا في العالم"
    page = f'<html><head><meta http-equiv="Content-Type" content="text/html; charset={declared}"></head><p>{text}</p>'
    assert load_file(tmp_path, "a.html", page.encode(actual)).text == text


def test_nothing_outside_the_page_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret words")
    page = f'<!DOCTYPE html [<!ENTITY s SYSTEM "file://{tmp_path}/secret">]><p>&s; and text</p>'
    assert "secret words" not in html.parse(page).text


def test_depth_is_refused_or_read_but_never_a_crash(tmp_path: Path) -> None:
    assert html.parse("<div>" * 200 + "deep" + "</div>" * 200).text == "deep"
    assert reason_of(tmp_path, "a.html", "<div>" * 100_000 + "x") == "damaged HTML: elements are nested too deeply"


def test_a_page_without_text(tmp_path: Path) -> None:
    assert reason_of(tmp_path, "a.html", "<html><head><title>Only</title></head><body><img src=x></body>") == "no text"


@given(
    st.lists(st.sampled_from([*"ab \n", "<p>", "</p>", "<td>", "<table>", "<tr>", "</table>", "<h1>", "<pre>", "<b>"]))
)
def test_any_tags_give_text_whose_sections_fit(pieces: list[str]) -> None:
    try:
        parsed = html.parse("".join(pieces))
    except IngestError:
        return
    assert parsed.text == parsed.text.rstrip()
    assert parsed.text == parsed.text.lstrip() or "<pre>" in pieces  # whose indentation is kept
    assert "".join(parsed.text.replace("|", "").split()) == "".join(piece for piece in pieces if piece in {"a", "b"})
    assert all(section.span.end <= len(parsed.text) for section in parsed.sections)

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.ingest import markdown

TEXT = """---
title: "The front title"
date: 2020-01-01
---
Before.

# One `code` and **bold** [link](http://x.y/z) #

Text.

```bash
# no heading
```

Two
lines
---

### C#
~~~
## no heading either
```
## nor this
~~~
- item
---
    # indented code
## Three {#anchor}
| a | b |
|---|---|
#no heading
"""


def test_headings_become_sections_and_the_text_stays() -> None:
    parsed = markdown.parse(TEXT)
    assert parsed.text == TEXT
    assert parsed.title == "The front title"
    assert [section.heading for section in parsed.sections] == [
        "One code and bold link",
        "Two lines",
        "C#",
        "Three",
    ]
    assert [section.span.of(TEXT).split("\n")[0] for section in parsed.sections] == [
        "# One `code` and **bold** [link](http://x.y/z) #",
        "Two",
        "### C#",
        "## Three {#anchor}",
    ]
    assert parsed.sections[-1].span.end == len(TEXT)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Setext\r\n======\r\n\r\nText.", "Setext"),
        ("Text.\n\n## Later\n", "Later"),
        ("No heading.", ""),
        ("---\nkey: value\n---\n# H\n", "H"),
        ("---\n\nA rule above.\n\n# H", "H"),
        ("#\n\n# Second", "Second"),
    ],
)
def test_titles(text: str, title: str) -> None:
    assert markdown.parse(text).title == title


@given(st.text(alphabet="#=- `~\n\r\tab|[]()*", max_size=60))
def test_sections_are_ordered_and_do_not_overlap(text: str) -> None:
    sections = markdown.parse(text).sections
    assert all(left.span.end <= right.span.start for left, right in pairwise(sections))
    assert all(len(section.span) > 0 and section.span.end <= len(text) for section in sections)

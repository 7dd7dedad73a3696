"""Bytes as a Markdown file, after they became text: `txt` throws at that."""

from __future__ import annotations

from fuzz_frame import Target
from parsed_promises import check_parser

from odqa.ingest import markdown

PAGE = b"""---
title: "A title"
---
# One {#anchor}

Text with [a link](http://example.org) and `code`.

Two
===

| a | b |
|---|---|

```python
# no heading
```

### Three ###
~~~
---
~~~
"""


def check(data: bytes) -> None:
    check_parser(lambda data: markdown.parse(data.decode("utf-8", "replace").replace("\0", "")), data)


TARGET = Target(
    "md",
    check,
    lambda: [PAGE, b"# \n\n#\n", b"a\n---\nb\n===\n"],
    tokens=(
        b"---\n",
        b"===\n",
        b"# ",
        b"```",
        b"~~~",
        b"\r\n",
        b"\r",
        b"    ",
        b"\t",
        b"[",
        b"](",
        b"*",
        b"__",
        b"\\#",
    ),
)

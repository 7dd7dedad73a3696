import io

import pytest

from odqa.model_rendering import figures_text, lengths_text, pull_progress, pull_text
from odqa.models import registry
from odqa.models.download import PullProgress


@pytest.mark.parametrize(
    ("done", "total", "rate", "shown"),
    [
        (0, 41_700_000, 0.0, "0 bytes of 41.7 MB, a.bin"),
        (20_850_000, 41_700_000, 1_000_000.0, "20.9 MB of 41.7 MB, 1.0 MB/s, 0:00:21 left, a.bin"),
        (1000, 1_300_000_000, 100_000.0, "1.0 kB of 1300.0 MB, 100.0 kB/s, 3:36:40 left, a.bin"),
        (1000, 0, 500.0, "1.0 kB, 500 bytes/s, a.bin"),  # nobody knows how much there is
        (1000, 1000, 500.0, "1.0 kB of 1.0 kB, 500 bytes/s, a.bin"),
    ],
)
def test_how_a_file_stands(done: int, total: int, rate: float, shown: str) -> None:
    assert pull_text(PullProgress("a.bin", done, total), rate) == shown


def test_progress_without_a_terminal_is_a_line_every_ten_seconds_and_every_note() -> None:
    out, now = io.StringIO(), [0.0]
    with pull_progress(out, clock=lambda: now[0]) as progress:
        for second in range(25):
            now[0] = float(second)
            progress(PullProgress("a.bin", 5000 + second * 1000, 100_000))
        progress(PullProgress("a.bin", 29_000, 100_000, "it broke \x1b[2J; attempt 2 of 6 in 1 s"))
    assert out.getvalue().splitlines() == [
        "odqa: 15.0 kB of 100.0 kB, 1.0 kB/s, 0:01:25 left, a.bin",
        "odqa: 25.0 kB of 100.0 kB, 1.0 kB/s, 0:01:15 left, a.bin",
        "odqa: a.bin: it broke \\x1b[2J; attempt 2 of 6 in 1 s",
    ]


def test_the_rate_is_that_of_this_download_not_of_what_was_there_before() -> None:
    out, now = io.StringIO(), [0.0]
    with pull_progress(out, clock=lambda: now[0]) as progress:
        progress(PullProgress("a.bin", 90_000, 100_000))  # resumed
        now[0] = 10.0
        progress(PullProgress("a.bin", 95_000, 100_000))
        progress(PullProgress("b.bin", 0, 100_000))
        now[0] = 20.0
        progress(PullProgress("b.bin", 20_000, 100_000))
        progress(PullProgress("b.bin", 0, 100_000))  # begun anew
        now[0] = 30.0
        progress(PullProgress("b.bin", 10_000, 100_000))
        progress(PullProgress("b.bin", 10_000, 100_000, "it broke"))
        now[0] = 500.0
        progress(PullProgress("b.bin", 10_000, 100_000))
        now[0] = 510.0
        progress(PullProgress("b.bin", 50_000, 100_000))
    rates = [line.split(", ")[1] for line in out.getvalue().splitlines() if "/s" in line]
    assert rates == ["500 bytes/s", "2.0 kB/s", "1.0 kB/s", "4.0 kB/s"]


def test_progress_on_a_terminal_is_a_bar_and_notes_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    out = Terminal()
    with pull_progress(out) as progress:
        progress(PullProgress("a.bin", 50, 100))
        progress(PullProgress("a.bin", 50, 100, "[red]it broke\x1b[31m"))
    text = out.getvalue()
    assert "50 bytes of 100 bytes" in text
    assert "odqa: a.bin: [red]it broke\\x1b[31m\n" in text


def test_figures_and_lengths() -> None:
    assert (
        figures_text({"squad_v1.1_dev_f1_percent": 81.1, "agreement": 0.5}) == "squad v1.1 dev f1 81.1 %; agreement 0.5"
    )
    assert figures_text({}) == ""
    assert lengths_text(registry.find("odqa-reader-small-int8")) == "window 384, question 64"
    assert lengths_text(registry.find("odqa-encoder-small-int8")) == "passage 384, question 32; vectors of 1024"

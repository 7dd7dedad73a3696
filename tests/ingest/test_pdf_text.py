import pytest
from ingest_files import pdf_bytes

from odqa.ingest import pdf


@pytest.mark.parametrize("mark", ["\ufffe", "\x02", "\ufffe\r\n"])
@pytest.mark.parametrize(
    ("before", "after", "rest", "wanted"),
    [
        ("con", "trolled", "", "controlled"),
        ("Stress", "Engineered", "", "Stress-Engineered"),
        ("COVID", "19", "", "COVID-19"),
        ("well", "known", "a well-known fact", "well-known"),
        ("mul", "tishape", "multishape well-known", "multishape"),
        ("state-of-the", "art", "", "state-of-the-art"),
    ],
)
def test_words_hyphenated_at_a_line_end(before: str, after: str, rest: str, wanted: str, mark: str) -> None:
    [page, _] = pdf._mend_hyphens([f"see {before}{mark}{after}.", rest])
    assert page == f"see {wanted}."


def test_a_hyphen_at_a_line_end_of_a_real_page() -> None:
    parsed = pdf.parse(pdf_bytes([["The disposal of con-", "trolled substances is ruled by law."]]))
    assert parsed.text == "The disposal of controlled substances is ruled by law."


def test_lines_of_a_font_without_characters_are_left_out_and_counted() -> None:
    text, lost = pdf._readable_lines("A good line. \r\n\x04\x05\x06a\x04b\x07\r\nAnother\x01 good line.")
    assert (text, lost) == ("A good line.\nAnother good line.", 7)


def test_ligatures_become_letters() -> None:
    text, _ = pdf._readable_lines(pdf.without_ligatures("the ﬁrst ﬂoor’s oﬃce"))
    assert text == "the first floor’s office"

"""Bytes of a text file -> text, without ever guessing a character away.

Order: byte order mark; strict UTF-8; the charset that an HTML page declares; detection. Detection ranks the decodings
that succeed strictly, by how odd the letters look, then by how well they fit a language (charset-normalizer), then by
how common the encoding is. U+FFFD never comes out unless it stands in the file.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

from odqa.errors import IngestError

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Labels that mean more than their name says (https://encoding.spec.whatwg.org/#names-and-labels).
_LABELS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
# Codecs that are not charsets of documents, or that decode nearly anything.
_REFUSED = {"utf-7", "idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem"}
# The most common first; ties are decided in this order.
_COMMON = (
    *("cp1252", "cp1251", "cp932", "euc_jp", "cp949", "gb18030", "big5hkscs", "cp1250", "koi8_r", "cp1256", "cp1253"),
    *("cp1254", "cp1255", "cp1257", "cp874", "cp866"),
)
_RARE = (
    "koi8_u",
    "iso8859_2",
    "iso8859_5",
    "iso8859_6",
    "iso8859_7",
    "iso8859_15",
    "cp850",
    "mac_roman",
    "mac_cyrillic",
)
_RARE_ODDNESS = 0.15  # how much better a rare encoding must look than a common one
_SAMPLE_BYTES = 64 * 1024
_SAMPLE_CHARACTERS = 8 * 1024
_QUOTES = frozenset("“”‘’„‚«»‹›–—…·•°§©®™€£²³µ\u00a0¿¡№、。，！？：；（）「」『』《》・ー،؛؟")
# The letters outside ASCII of languages in Latin script: a text keeps to those of one.
_ALPHABETS = (
    "àâæçéèêëîïôœùûüÿ",  # French
    "äöüßé",
    "áéíóúüñàèìòùçïâãêôõºª",  # Spanish, Portuguese, Italian, Catalan
    "æøåéäöèêóòâôà",  # Scandinavian, Finnish, Dutch
    "ëïéèêóöüáíú",
    "áðéíóúýþæö",  # Icelandic
    "áčďéěíňóřšťúůýžäĺľŕô",  # Czech, Slovak
    "ąćęłńóśźż",  # Polish
    "áéíóöőúüű",  # Hungarian
    "ăâîșțşţ",  # Romanian
    "čćđšž",  # Croatian, Slovene
    "çğıöşüâîû",  # Turkish
    "ąčęėįšųūžāēģīķļņōŗõäöü",  # Baltic
    "šžäöåõü",  # Finnish, Estonian
)
_WORD = re.compile(r"[^\W\d_]+")
_CYRILLIC_VOWELS = re.compile("[аеёиоуыэюяіїє]", re.IGNORECASE)
_ASCII = re.compile(rb"[^\x80-\xff]*")
_MULTIBYTE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}",
)
_CONTROLS = re.compile("[\x00-\x06\x0e-\x19\x7f]")


def decode(data: bytes, *, declared: str = "") -> str:
    """Decode the bytes of a text file; line ends and every other character stay as they are.

    Args:
        data: The file; empty gives "".
        declared: The charset that the document names itself, "" for none. It counts only where the bytes are not
            UTF-8, and only if they decode under it, because such names are often wrong.

    Returns:
        The text, without its byte order mark.

    Raises:
        IngestError: The bytes are not text, are damaged UTF-8 or UTF-16, or no encoding fits.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _checked(_strict(data[len(mark) :], name))
    if b"\0" in data:
        return _checked(_unmarked_utf16(data))
    if b"\x1b" in data and (text := _try(data, _codec(declared))) is not None:
        return _checked(text)  # ISO-2022 writes everything in ASCII bytes, so it looks like UTF-8
    if (text := _try(data, "utf-8")) is not None:
        return _checked(text)
    _refuse_damaged_utf8(data)
    codec = _codec(declared)
    if codec != "utf-8" and (text := _try(data, codec)) is not None and not re.search("[\x80-\x9f]", text):
        return _checked(text)
    return _checked(_detect(data))


def _strict(data: bytes, name: str) -> str:
    try:
        return data.decode(name)
    except UnicodeDecodeError as error:
        raise IngestError(
            f"begins with the byte order mark of {name.upper()}, but byte {error.start} is not {name.upper()}"
        ) from error


def _try(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec) if codec else None
    except UnicodeDecodeError:
        return None


def _checked(text: str) -> str:
    """Refuse what decoded, but is not text."""
    if "\0" in text:
        raise IngestError("not text: it holds NUL characters")
    controls = sum(1 for _ in _CONTROLS.finditer(text))
    if controls > len(text) / 50:
        raise IngestError(f"not text: {controls} of {len(text)} characters are control characters")
    return text


def _unmarked_utf16(data: bytes) -> str:
    """Decode UTF-16 without a mark: mostly ASCII, so every other byte is NUL."""
    sample = data[:_SAMPLE_BYTES]
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    name = "utf-16-le" if odd > even else "utf-16-be"
    text = _try(data, name) if max(even, odd) > 0.3 * len(sample) and min(even, odd) < 0.02 * len(sample) else None
    if text is None:
        raise IngestError("not text: it holds NUL bytes")
    return text


def _codec(declared: str) -> str:
    """Return the codec of a declared charset, "" when there is none that means a charset."""
    try:
        name = codecs.lookup(declared.strip()).name if declared.strip().isascii() and declared.strip() else ""
        b"a".decode(name or "utf-8")  # refuses codecs such as "base64" that do not make text
    except (LookupError, ValueError):
        return ""
    if name in _REFUSED or name.startswith(("utf-16", "utf-32")):
        return ""
    return _LABELS.get(name, name)


def _refuse_damaged_utf8(data: bytes) -> None:
    """Tell UTF-8 with a few bad bytes from another encoding, which hardly ever holds valid sequences."""
    valid = sum(len(match[0]) for match in _MULTIBYTE.finditer(data))
    high = sum(len(match[0]) for match in re.finditer(rb"[\x80-\xff]+", data))
    if valid == high or (valid >= 0.9 * high and valid >= 4):  # all of them: a half of a surrogate pair, in UTF-8
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise IngestError(
                f"damaged UTF-8: byte {error.start} (line {line}) is not UTF-8, though the rest is; mend that line"
            ) from error


def _detect(data: bytes) -> str:
    """Decode bytes of unknown encoding by the best-looking decoding that succeeds for all of them."""
    try:
        from charset_normalizer import from_bytes
    except ImportError as error:
        raise IngestError("the text is not UTF-8; pip install 'odqa[files]' to detect other encodings") from error
    sample = _sample(data)
    coherence: dict[str, float] = {}
    for match in from_bytes(sample):
        for name in match.could_be_from_charset:
            coherence[name] = max(coherence.get(name, 0.0), match.coherence)
    names = [*_COMMON, *_RARE]
    names += sorted(name for name in coherence if name not in names and "utf" not in name)
    ranked: list[tuple[float, float, int, str]] = []
    for place, name in enumerate(names):
        text = _sample_text(sample, name)
        if text is not None:
            oddness = _oddness(text, name) + (_RARE_ODDNESS if place >= len(_COMMON) else 0.0)
            ranked.append((round(oddness, 1), -round(coherence.get(name, 0.0), 1), place, name))
    for oddness, _, _, name in sorted(ranked):
        if oddness > 0.5:
            break
        if (text := _try(data, name)) is not None:
            return text
    raise IngestError("not text in any known encoding; save it as UTF-8")


def _sample(data: bytes) -> bytes:
    """Cut out the stretch around the first byte that is not ASCII, from a line's begin to a line's end."""
    first = len(_ASCII.match(data)[0])  # type: ignore[index]  # matches everywhere
    start = data.rfind(b"\n", 0, max(0, first - 1000)) + 1
    end = data.rfind(b"\n", first, first + _SAMPLE_BYTES)
    return data[start : end + 1] if end > 0 else data[start : first + _SAMPLE_BYTES]


def _sample_text(sample: bytes, name: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(name)().decode(sample)[:_SAMPLE_CHARACTERS]
    except (UnicodeDecodeError, LookupError):
        return None


def _oddness(text: str, codec: str) -> float:
    """Return how odd a decoding looks: faults per character outside ASCII, 0 for none."""
    foreign = [character for character in text if character >= "\x80"]
    faults = sum(_odd_signs(text)) + sum(_odd_words(text)) + _odd_ideographs(foreign, codec)
    latin = [character for character in foreign if "\u00c0" <= character <= "\u024f" and character.isalpha()]
    strangers = min(sum(letter.lower() not in alphabet for letter in latin) for alphabet in _ALPHABETS)
    return (faults + strangers / 2) / max(1, len(foreign))


def _odd_signs(text: str) -> Iterator[float]:
    for before, character in pairwise(" " + text):
        if character < "\x80":
            continue
        category = unicodedata.category(character)
        if category in {"Cc", "Co", "Cn", "Cs"}:
            yield 5.0
        elif category[0] == "M" and not (before.isalpha() or unicodedata.category(before)[0] == "M"):
            yield 2.0  # an accent on nothing
        elif "\uff61" <= character <= "\uff9f":
            yield 1.0  # half-width katakana
        elif category[0] in "PSNZ" and character not in _QUOTES:
            yield 0.1 if "\u00a1" <= character <= "\u00f7" and not before.isalpha() else 1.0


def _odd_words(text: str) -> Iterator[float]:
    foreign = [word for word in _WORD.findall(text) if not word.isascii()]
    if all(len(word) == 1 for word in foreign):  # signs such as ×, read as letters
        yield from (1.0 for word in foreign if _script(word) not in {"LATIN", "CJK"})
    for word in foreign:
        scripts = {_script(character) for character in word}
        letters = sum(character < "\x80" for character in word)
        if len(scripts) > 1 and (scripts != {"CJK", "LATIN"} or len(word) - letters < 3):
            yield 2.0
        elif scripts == {"LATIN"} and len(word) > 3 and letters < len(word) / 4:
            yield float(len(word))  # accents upon accents: another script, read as Western European
        elif scripts == {"CYRILLIC"}:
            yield 0.3 * len(word) * (len(word) > 3 and not _CYRILLIC_VOWELS.search(word))
        yield float(sum(left.islower() and right.isupper() for left, right in pairwise(word)))


def _odd_ideographs(foreign: list[str], codec: str) -> float:
    """Tell the East Asian encodings apart, which decode much of each other's text."""
    ideographs = sum("\u4e00" <= character <= "\u9fff" for character in foreign)
    kana = sum("\u3040" <= character <= "\u30ff" for character in foreign)
    if codec in {"cp932", "euc_jp"}:
        return 0.0 if kana else 0.3 * ideographs
    if codec == "cp949":
        return 0.5 * ideographs + 0.5 * sum(not _encodable(character, "euc_kr") for character in foreign)
    if codec == "gb18030":
        rare = sum(not _encodable(character, "gb2312") for character in foreign)
        return 0.5 * rare + kana
    return float(kana) if codec == "big5hkscs" else 0.0


def _encodable(character: str, codec: str) -> bool:
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _script(character: str) -> str:
    """Return the script of a letter, as the first word of its name; the scripts of Japanese count as one."""
    script = unicodedata.name(character, "?").split(" ")[0]
    return "CJK" if script in {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"} else script

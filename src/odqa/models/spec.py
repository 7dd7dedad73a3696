"""What a model is, as data: its files, its contract, its figures. An entry is the same in the form of JSON."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from odqa.errors import MissingModelError, ModelError

ENCODE: Final = "encode"
READ: Final = "read"
IR = "ir"
HUGGINGFACE = "huggingface"
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # of a model or a file: leads out of no folder

Role = Literal["network", "weights", "vocabulary", "configuration", "settings"]
Source = Literal["bundled", "pull", "local"]

# The files of each form: those that it needs, and those that may be absent at their source.
_ROLES = {
    IR: ({"network", "weights", "vocabulary"}, set[str]()),
    HUGGINGFACE: ({"configuration", "weights", "vocabulary"}, {"settings"}),
}
_KINDS = {ENCODE: "an encoder", READ: "a reader"}
_LENGTHS = ("passage_tokens", "window_tokens", "question_tokens")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model.

    `name` is its name in the model's folder, `size` is in bytes, `checksum` is "sha256:" or "sha384:" and hex digits,
    and `url` is where it can be had, or None for a file that is not fetched. Where the publisher names no size or no
    checksum they are None, and the file is held against what was recorded when it was first fetched. `alternatives`
    are names of files that do as well, in the same place, if there is none of this name.

    Raises:
        ValueError: a name has a folder in it, the role is unknown, the checksum is malformed, or a file that is not
            fetched has none.
    """

    name: str
    role: Role
    url: str | None
    size: int | None
    checksum: str | None
    alternatives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse entries that could not be verified, or that would lead out of the model's folder."""
        for name in (self.name, *self.alternatives):
            if not PLAIN_NAME.fullmatch(name):
                raise ValueError(f"not a plain file name: {name!r}")
        if self.role not in get_args(Role):
            raise ValueError(f"{self.name}: unknown role {self.role!r}")
        if self.url is None and (self.size is None or self.checksum is None):
            raise ValueError(f"{self.name}: needs a size and a checksum")
        if self.checksum is not None and not _CHECKSUM.fullmatch(self.checksum):
            raise ValueError(
                f"{self.name}: a checksum must be sha256: or sha384: and hex digits, not {self.checksum!r}"
            )


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the scores of a reader become the order and the probabilities of answers; see `odqa.reader.merge`.

    The final score of a span is `reader_weight` * its reader score - `retrieval_weight` * how far its passage's
    retrieval score lies below the best. Equal answers from several places score `support_weight` times the logarithm of
    their number more than the best of them. The probability of an answer is sigmoid(`score_coefficient` * score +
    `margin_coefficient` * margin + `lead_coefficient` * lead of the best passage in retrieval + `intercept`), with the
    score and the margin to the best other answer held in [-`margin_cap`, `margin_cap`]. Below `threshold` the result is
    "no answer".

    `unread_above` holds, for the second stage of reading and for each later one, the reader score beyond which no
    answer is hoped for: a passage that would need a higher one to win is left unread (`odqa.reader.stages`). The last
    one holds for all further stages; without any, every passage is read. `unread_above_long` takes its place where a
    question's passages are long (`settings.LONG_CHARACTERS`), if there is any.
    """

    reader_weight: float = 1.0
    retrieval_weight: float = 0.0
    support_weight: float = 0.0
    score_coefficient: float = 1.0
    margin_coefficient: float = 0.0
    lead_coefficient: float = 0.0
    intercept: float = 0.0
    margin_cap: float = 10.0
    threshold: float = 0.5
    unread_above: tuple[float, ...] = ()
    unread_above_long: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model, as its registry entry describes it.

    Lengths are in tokens, [CLS] and [SEP] included: `passage_tokens` (encoders; 0 for readers), `window_tokens`
    (readers; 0 for encoders) and `question_tokens` ([CLS] and [SEP] not counted for readers, where a question shares
    its window). `inputs` and `outputs` are the network's names in the order of their positions: a file with other names
    is bound by position. `width` is the length of an encoder's vectors, 0 for readers. `published` and `measured` hold
    figures by name. `trained_no_answer` tells whether a reader was trained to point at [CLS] when there is no answer.
    `other_names` are names under which it can be found as well.

    `form` is "ir" for files that OpenVINO reads, and "huggingface" for files that have to be converted before that.
    `source` is "bundled" (in the package), "pull" (fetched when asked for) or "local" (imported). `gops` is the
    published cost of an input of 384 tokens in 1e9 operations, `parameters_millions` the number of weights in 1e6; None
    where it is not known. `strip_accents` None means: accents are stripped where case is lowered.

    `lexical_half` tells that an encoder's vectors are the sum of a dense half and of a bag of word pieces, which token
    types of 1 leave out (docs/decisions.md).
    """

    name: str
    task: Literal["encode", "read"]
    revision: str
    description: str
    licence: str
    source: Source
    architecture: str
    files: tuple[ModelFile, ...]
    lower_case: bool
    question_tokens: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    passage_tokens: int = 0
    window_tokens: int = 0
    width: int = 0
    published: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    trained_no_answer: bool = False
    calibration: Calibration = field(default_factory=Calibration)
    other_names: tuple[str, ...] = ()
    form: Literal["ir", "huggingface"] = "ir"
    gops: float | None = None
    parameters_millions: float | None = None
    strip_accents: bool | None = None
    lexical_half: bool = False

    def __post_init__(self) -> None:
        """Refuse entries that cannot be loaded."""
        if self.task not in (ENCODE, READ) or self.source not in get_args(Source) or self.form not in _ROLES:
            raise ValueError(f"{self.name}: unknown task {self.task!r}, source {self.source!r} or form {self.form!r}")
        needed, optional = _ROLES[self.form]
        roles = [file.role for file in self.files]
        if len(set(roles)) != len(roles) or not needed <= set(roles) <= needed | optional:
            raise ValueError(f"{self.name}: needs one file for each of: {', '.join(sorted(needed))}")
        if self.form == IR and any(file.size is None or file.checksum is None for file in self.files):
            raise ValueError(f"{self.name}: every file needs a size and a checksum")
        if not PLAIN_NAME.fullmatch(self.name):
            raise ValueError(f"not a plain model name: {self.name!r}")

    def file(self, role: Role) -> ModelFile:
        """Return the file of a role."""
        return next(file for file in self.files if file.role == role)

    @property
    def size(self) -> int | None:
        """Bytes of all files, None where they are not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def checksum(self) -> str:
        """One checksum for all that decides the outputs: SHA-256 over the checksums of the files, in order of role.

        Raises:
            MissingModelError: the model was not converted yet, so its network is not known.
        """
        if self.form != IR:
            raise MissingModelError(not_pulled(self))
        lines = [f"{file.role} {file.checksum}\n" for file in sorted(self.files, key=lambda file: file.role)]
        return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def read_entry(given: Mapping[str, Any]) -> ModelSpec:
    """Make a description out of an entry, as `registry.json` and `model.json` hold them.

    Raises:
        KeyError, TypeError, ValueError: the entry is malformed.
    """
    entry = dict(given)
    entry.update(entry.pop("maximum_lengths"))
    entry["files"] = tuple(
        ModelFile(**{**file, "alternatives": tuple(file.get("alternatives", ()))}) for file in entry["files"]
    )
    for name in ("inputs", "outputs", "other_names"):
        entry[name] = tuple(entry.get(name, ()))
    for name in ("published", "measured"):
        entry[name] = MappingProxyType(dict(entry.get(name, {})))
    calibration = dict(entry.get("calibration", {}))
    calibration.pop("retrieval_coefficient", None)  # of earlier entries; models that users bring have it at 0
    for name in ("unread_above", "unread_above_long"):
        calibration[name] = tuple(calibration.get(name, ()))
    entry["calibration"] = Calibration(**calibration)
    return ModelSpec(**entry)


def entry_of(spec: ModelSpec) -> dict[str, Any]:
    """Return a description as an entry: `read_entry(entry_of(spec)) == spec`, and it can be written as JSON."""
    entry: dict[str, Any] = {one.name: getattr(spec, one.name) for one in fields(spec)}
    entry["files"] = [asdict(file) for file in spec.files]
    entry["calibration"] = asdict(spec.calibration)
    for name in ("published", "measured"):
        entry[name] = dict(entry[name])
    entry["maximum_lengths"] = {name: entry.pop(name) for name in _LENGTHS}
    return entry


def need_task(spec: ModelSpec, task: Literal["encode", "read"]) -> None:
    """Refuse a model that is for another task.

    Raises:
        ModelError: it is.
    """
    if spec.task != task:
        wanted = _KINDS[task]
        raise ModelError(f"model {spec.name} is {_KINDS[spec.task]}, not {wanted}; name {wanted}")


def not_pulled(spec: ModelSpec) -> str:
    """Return what to say of a model that has not been pulled."""
    return f"model {spec.name} has not been pulled: get it with `odqa models pull {spec.name}`"

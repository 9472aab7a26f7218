"""Errors that a user can cause.

Every message states in one line what is wrong, where (file, row, SMILES) and what to do; the command line prints it
and exits with status 2. Any other exception is a defect of this package.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from tokenize import TokenError
from typing import Any, Literal, get_args, get_origin, get_type_hints

DAMAGE = (
    *(ValueError, KeyError, IndexError, TypeError, AttributeError, SyntaxError, TokenError, OverflowError),
    *(OSError, EOFError, RuntimeError, MemoryError, SystemError, struct.error, zipfile.BadZipFile, zlib.error),
)
"""Exceptions raised by libraries for damaged files."""


def encodable(text: str) -> str:
    """The text with question marks for characters that UTF-8 cannot encode, such as stray bytes of a file name.

    Example:
        >>> encodable(f"CC{chr(0xdcfc)}")
        'CC?'
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class MolformerError(Exception):
    """Base class of errors caused by inputs.

    `status` is that of the row of a prediction which fails with this error.
    """

    status = "invalid_input"

    def __init__(self, message: object = "") -> None:
        super().__init__(encodable(str(message)))


class InputError(MolformerError):
    """A molecule, file or array that is invalid."""


class ConformerError(MolformerError):
    """A molecule for which no conformer can be generated."""

    status = "embedding_failed"


class UnsupportedElementError(MolformerError):
    """A molecule with an element that is not in the training set."""

    status = "unsupported_element"


class TooLargeError(MolformerError):
    """A structure that exceeds the memory limit of a prediction."""

    status = "too_large"


class NotFiniteError(MolformerError):
    """A structure for which the output of the model is not finite."""

    status = "not_finite"


class StoreError(MolformerError):
    """A structure store that is missing, damaged, foreign or lacks a label."""


class ModelError(MolformerError):
    """A model folder that is missing, incomplete or of an unknown format."""


class ConfigError(MolformerError):
    """A configuration with an unknown key, a wrong type or inconsistent values."""


class UnitError(MolformerError):
    """An unknown unit, or a conversion between different physical quantities."""


class TrainingError(MolformerError):
    """A training run that cannot continue, for instance because its loss is not finite."""


def one_line(error: BaseException) -> str:
    """Message of an exception in one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def extra(name: str, why: str, kind: type[MolformerError] = ConfigError) -> Iterator[None]:
    """Context for the import of an optional package; if it is missing, the error names the extra that brings it.

    Raises:
        MolformerError: of that kind.
    """
    try:
        yield
    except ImportError:
        raise kind(f"{why}: pip install 'molformer[{name}]'") from None


def check_choices(config: Any, kind: type[MolformerError] = ConfigError, of: str = "") -> None:
    """Check the fields of a dataclass whose type is a `Literal`.

    Raises:
        MolformerError: of that kind, if a value is none of the choices; the message names the field, and what it is of.
    """
    hints = get_type_hints(type(config))
    for name in (field.name for field in fields(config) if get_origin(hints[field.name]) is Literal):
        value, choices = getattr(config, name), get_args(hints[name])
        if value not in choices:
            raise kind(f"{of}{name} '{value}' is not one of {', '.join(choices)}")

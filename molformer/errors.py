"""Errors that a user can cause.

Every message says what is wrong, where (file, row, SMILES) and what to do about it, in one line; the command
line prints it as it is and ends with status 2. Anything else that is raised is a defect of this package.
"""

import struct
import zipfile
import zlib
from tokenize import TokenError

DAMAGE = (
    *(
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        SyntaxError,
        TokenError,
        OverflowError,
        struct.error,
    ),
    *(OSError, EOFError, RuntimeError, MemoryError, SystemError, zipfile.BadZipFile, zlib.error),
)
"""What libraries raise that read a damaged file."""


def encodable(text: str) -> str:
    """The text with question marks for what has no UTF-8, such as other bytes of a file name.

    Example:
        >>> encodable(f"CC{chr(0xdcfc)}")
        'CC?'
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class MolformerError(Exception):
    """Base of all errors that are the input's fault and not the program's.

    `status` is what a prediction's row says where this error is the reason that it has no value.
    """

    status = "invalid_input"

    def __init__(self, message: object = "") -> None:
        super().__init__(encodable(str(message)))


class InputError(MolformerError):
    """A molecule, file or array that cannot be read as what it claims to be."""


class ConformerError(MolformerError):
    """A molecule for which no 3-D geometry could be made."""

    status = "embedding_failed"


class UnsupportedElementError(MolformerError):
    """A molecule with an element that the model never saw in training."""

    status = "unsupported_element"


class TooLargeError(MolformerError):
    """A structure that does not fit into the memory that a prediction may use."""

    status = "too_large"


class NotFiniteError(MolformerError):
    """A structure for which a model's numbers overflow, so that there is no value to show."""

    status = "not_finite"


class StoreError(MolformerError):
    """A structure store that is missing, damaged, foreign or lacks a label."""


class ModelError(MolformerError):
    """A model folder that is missing, incomplete or of an unknown format."""


class ConfigError(MolformerError):
    """A configuration with an unknown key, a wrong type or values that contradict each other."""


class UnitError(MolformerError):
    """An unknown unit, or a conversion between different physical quantities."""


class TrainingError(MolformerError):
    """A training run that cannot go on, such as one whose loss is no longer finite."""


def one_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__

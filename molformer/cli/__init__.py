"""The command line, with a module for each group of commands. Only this package prints.

Heavy imports are inside the commands, so that `molformer --help` is fast.
"""

import io
import logging
import os
import sys
import warnings
from typing import Any

from molformer.cli.app import app
from molformer.errors import MolformerError

# Each adds its commands to the application, and they are listed in this order.
# isort: off
from molformer.cli import training
from molformer.cli import prediction
from molformer.cli import serving
from molformer.cli import data
from molformer.cli import convert
from molformer.cli import examples
# isort: on


def main() -> Any:
    """Run the command line; errors of users and of the system are one line on standard error and exit status 2."""
    # Some processors advertise AMX and then die in a bfloat16 product; read when torch is imported.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch's remarks on how processes share gradients
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("molformer").setLevel(logging.INFO)
    warnings.filterwarnings("default", "the config key", DeprecationWarning)
    warnings.formatwarning = lambda message, *_: f"molformer: {message}\n"
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # of a terminal with few characters, or of file names that are no text
    try:
        try:
            return app()
        finally:
            sys.stdout.flush()
    except MolformerError as error:
        print(f"molformer: {error}", file=sys.stderr)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what could not be written would be tried again at the exit
        place = f"read or write '{error.filename}'" if error.filename else "write the output"
        print(f"molformer: cannot {place}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("molformer: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(2)

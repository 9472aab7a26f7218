"""The command line: one module for each group of commands. Only this package prints.

Heavy imports stand inside the commands, so that `molformer --help` answers at once.
"""

import logging
import os
import sys
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
# isort: on


def main() -> Any:
    """Run the command line; a user's error is one line on standard error and status 2."""
    # Some processors advertise AMX and then die in a bfloat16 product; read when torch is imported.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch's remarks on how processes share gradients
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("molformer").setLevel(logging.INFO)
    try:
        return app()
    except MolformerError as error:
        print(f"molformer: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("molformer: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(2)

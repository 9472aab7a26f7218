from tests.inference.conftest import folder  # noqa: F401
from tests.training.conftest import ions, store  # noqa: F401

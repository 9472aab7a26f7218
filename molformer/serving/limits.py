"""Limits of the server: what a request may hold, how long it may take, and how much may wait."""

from dataclasses import dataclass

MOST_CONFORMERS = 20  # geometries of a molecule that can be asked for
MOST_NAMES = 1000  # names of targets in a request


@dataclass(frozen=True)
class Limits:
    """What the server takes on."""

    body: int = 8 * 2**20  # bytes of a request; a packed file may not unpack to more either
    molecules: int = 1000  # of a request
    atoms: int = 500  # of a molecule, hydrogens included; a larger one is refused in its row
    characters: int = 2000  # of a SMILES; a longer one is refused in its row
    seconds: float = 60.0  # from the first byte of a request to its answer
    waiting: int = 5000  # molecules of all requests that are at work, at most
    max_batch_delay: float = 0.003  # seconds that a molecule waits for others to share a pass of the model with
    memory: int = 2 * 2**30  # bytes of address space of a process that reads a file or makes a geometry
    header_seconds: float = 10.0  # in which a connection has to send the header of its request
    connections: int = 1000  # that are open at the same time; requests on further ones are refused

"""GeometryCache: persistent cache of conformers and failures."""

import hashlib
import json
import logging
import os
import time
import uuid
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
from rdkit import rdBase

from molformer.data.conformers import ConformerPolicy, canonical_graph
from molformer.data.drafts import draft_folder, writing
from molformer.data.store import StoreWriter, StructureStore
from molformer.data.workers import Outcome, WorkerDied
from molformer.errors import ConformerError, StoreError
from molformer.structure import Structure

logger = logging.getLogger(__name__)

SHARD = 5000  # new molecules after which a cache writes a file
SHARD_SECONDS = 120  # seconds after which it writes one with fewer

_CACHE_FORMAT = 1


class GeometryCache(AbstractContextManager["GeometryCache"]):
    """A folder of geometries and failures by canonical SMILES, for one policy and one version of RDKit.

    New ones are written as further files, each whole or not at all, so that any number of processes may share the
    folder, in which each policy has its own; each sees what was there when it began. A damaged file is skipped, with a
    warning. With `every`, all conformers of a molecule are held, else only the best.

    Raises:
        StoreError: the folder cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str], policy: ConformerPolicy, every: bool = False) -> None:
        self.policy = policy
        self.every = every
        self.source = f"molformer cache {_CACHE_FORMAT}; {policy}; RDKit {rdBase.rdkitVersion}"
        self.source += "; parts of salts kept" if policy.salts == "keep" else ""
        self.source += "; every conformer" if every else ""
        key = hashlib.sha256(self.source.encode()).hexdigest()[:12]
        self.folder = Path(path) / f"{policy.method}-{key}"
        self._new: dict[str, Outcome] = {}
        self._stores: list[StructureStore] = []
        self._index: dict[str, tuple[int, range] | str] = {}  # store and rows, or why there is no geometry
        self._written = time.monotonic()
        with writing(self.folder, StoreError):
            self.folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(self.folder.glob("[!.]*.*")):
            try:
                if file.suffix == ".safetensors":
                    self._add_store(file)
                elif file.suffix == ".json":
                    self._index.update(json.loads(file.read_text(encoding="utf-8")))
            except (StoreError, OSError, ValueError) as error:
                logger.warning("'%s' of the cache is skipped: %s", file, error)

    def __exit__(self, *_: object) -> None:
        self.flush()

    def __len__(self) -> int:
        return len(self._index) + len(self._new)

    def get(self, smiles: str) -> Outcome | None:
        """Cached outcome of a canonical SMILES; None if there is none."""
        if smiles in self._new:
            return self._new[smiles]
        found = self._index.get(smiles)
        if found is None:
            return None
        if isinstance(found, str):
            return ConformerError(found)
        structures = [self._stores[found[0]][row] for row in found[1]]
        graph = structures[0].molecular_graph or canonical_graph(smiles, self.policy)  # a store of format 1 has none
        # Not a view of the file, and grouped by the import that asks for it.
        made = tuple(replace(each, pos=np.array(each.pos), molecular_graph=graph, group=-1) for each in structures)
        return made if self.every else made[0]

    def put(self, smiles: str, outcome: Outcome) -> None:
        """Add the outcome of a canonical SMILES, unless it may differ next time."""
        final = isinstance(outcome, Structure | tuple | ConformerError) and not isinstance(outcome, WorkerDied)
        if not final or smiles in self._index:
            return
        self._new[smiles] = outcome
        if len(self._new) >= SHARD or time.monotonic() - self._written > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write new outcomes.

        Raises:
            StoreError: the folder cannot be written.
        """
        name = uuid.uuid4().hex
        failures = {smiles: str(outcome) for smiles, outcome in self._new.items() if isinstance(outcome, Exception)}
        made = {smiles: outcome for smiles, outcome in self._new.items() if not isinstance(outcome, Exception)}
        with writing(self.folder, StoreError):
            if failures:
                with draft_folder(self.folder / name) as folder:
                    draft = folder / "failures"
                    draft.write_text(json.dumps(failures, ensure_ascii=False, indent=1), encoding="utf-8")
                    os.replace(draft, self.folder / f"{name}.json")
                self._index.update(failures)
            if made:
                with StoreWriter(self.folder / name, source=self.source, precision="float64") as writer:
                    for smiles, outcome in made.items():
                        for structure in outcome if isinstance(outcome, tuple) else (outcome,):
                            writer.add(replace(structure, smiles=smiles, name="", labels={}))
                self._add_store(writer.path)
        self._new.clear()
        self._written = time.monotonic()

    def _add_store(self, path: Path) -> None:
        store = StructureStore(path)
        text, ptr = bytes(store.column("smiles.utf8")), store.column("smiles.ptr").tolist()
        position = len(self._stores)
        row = 0
        for smiles, rows in groupby(text[start:end].decode() for start, end in pairwise(ptr)):
            first, row = row, row + sum(1 for _ in rows)
            self._index[smiles] = (position, range(first, row))
        self._stores.append(store)

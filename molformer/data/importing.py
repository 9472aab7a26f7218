"""Import: from inputs of any kind to a store, streaming, with a record of every row that did not make it."""

import contextlib
import csv
import hashlib
import heapq
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from molformer.data import datasets
from molformer.data.conformer_generation import with_geometry
from molformer.data.conformers import ConformerPolicy, group_of
from molformer.data.drafts import plain_field, writing
from molformer.data.known_labels import DESCRIPTOR
from molformer.data.readers import Entry, ReadOptions, format_of, is_file, read_input
from molformer.data.readers.files import suffix_of
from molformer.data.report import record_path
from molformer.data.several_conformers import conformer_labels, with_labels
from molformer.data.store import FORMAT, StoreWriter, StructureStore, store_path
from molformer.errors import InputError, MolformerError, StoreError, encodable
from molformer.targets import Label
from molformer.version import __version__

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportResult:
    """What an import gave."""

    store: StructureStore  #: the new store
    rejected: int  #: rows that are not in it
    record: Path | None  #: CSV file that names each of them with the reason; None if there are none


def import_inputs(
    inputs: Sequence[str | Path],
    output: str | os.PathLike[str],
    options: ReadOptions | None = None,
    policy: ConformerPolicy | None = None,
    processes: int = 0,
    source: str = "",
    progress: Callable[[], None] | None = None,
    cache: Path | None = None,
    sample: int = 0,
    seed: int = 0,
    descriptors: bool = False,
) -> ImportResult:
    """Import SMILES, files and folders into a store; see `import_entries`.

    Args:
        inputs: SMILES, files and folders.
        output: the store.
        options: of reading, with the labels to import.
        policy: how molecules without coordinates get them.
        processes: worker processes that make geometries; 0 works in this one.
        source: where the data come from; the names of the inputs if empty.
        progress: called after every row.
        cache: folder of cached geometries; None for no cache.
        sample: number of molecules drawn from each input without labels, 0 for all.
        seed: of that draw.
        descriptors: add RDKit's descriptors to the labels, see `molformer.data.descriptors`.

    Raises:
        InputError: an input cannot be read at all, two inputs disagree about a label, or no row is good.
        StoreError: the store cannot be written.
    """
    options = options or ReadOptions()
    own = _labels_of(inputs, options)
    labels = list({label.name: label for found in own.values() for label in found}.values())
    names = source or ", ".join(Path(name).name if is_file(name) else str(name) for name in inputs)
    entries = _entries(inputs, options, own, sample, seed)
    return import_entries(entries, output, labels, policy, processes, names, progress, cache, descriptors)


def import_dataset(
    name: str,
    output: str | os.PathLike[str],
    file: Path | None = None,
    policy: ConformerPolicy | None = None,
    processes: int = 0,
    progress: Callable[[], None] | None = None,
    cache: Path | None = None,
    downloaded: Callable[[int, int | None], None] | None = None,
    count: int = 0,
    seed: int = 0,
) -> ImportResult:
    """Import a data set by its name; its files are downloaded once, to `cache_folder()`, or it is made.

    `name` is one of `molformer.data.datasets.names`; `file` its first file, where it is there already: nothing is then
    downloaded, else `downloaded` is called with the bytes that are there and those of the whole file, None if that is
    not known. `count` and `seed` are of a data set that is made here, 0 for its own number; all else is as for
    `import_inputs`.

    Raises:
        InputError: there is no such data set, its files cannot be had or are damaged, or it has none and one is given.
        StoreError: the store cannot be written.
    """
    dataset = datasets.info(name)
    source = f"{name}; {dataset.citation}; licence: {dataset.licence}"
    if dataset.generate is not None and file is None:
        entries = datasets.generate(name, count, seed)
        source = f"{source}; seed {seed}"
    elif count:
        raise InputError(f"--count is for a data set that is made here, and '{name}' is published")
    else:
        entries = datasets.read(name, datasets.fetch(name, cache_folder() / "datasets" / name, file, downloaded))
    return import_entries(entries, output, dataset.labels, policy, processes, source, progress, cache)


def cache_folder() -> Path:
    """Folder of downloads and caches: the environment's MOLFORMER_CACHE, or `~/.cache/molformer`."""
    return Path(os.environ.get("MOLFORMER_CACHE") or Path.home() / ".cache" / "molformer")


def import_entries(
    entries: Iterable[Entry],
    output: str | os.PathLike[str],
    labels: Sequence[Label] = (),
    policy: ConformerPolicy | None = None,
    processes: int = 0,
    source: str = "",
    progress: Callable[[], None] | None = None,
    cache: Path | None = None,
    descriptors: bool = False,
) -> ImportResult:
    """Write entries to a store; those with an error to `<store>.rejected.csv`, with the reason.

    Memory does not grow with the number of entries. Store and record appear whole, at the end.

    Raises:
        InputError: no row is good; the record is written all the same.
        StoreError: the store cannot be written.
    """
    path = store_path(output)
    labels = [*labels, *conformer_labels(policy.num_conformers if policy else 1)]
    made = with_geometry(entries, policy, processes, cache, every=policy is not None and policy.num_conformers > 1)
    if descriptors:
        from molformer.data.descriptors import LABELS, with_descriptors

        labels = [*{label.name: label for label in (*labels, *LABELS)}.values()]
        made = with_descriptors(made, processes)
    with contextlib.closing(made), StoreWriter(path, labels, encodable(source)) as writer:
        record = _Record(record_path(path), writer.folder / "rejected.csv")
        for entry in made:
            error = entry.error or _add(writer, entry)
            record.count(entry, error)
            if progress is not None:
                progress()
        record.publish()
        if record.rejected == record.rows:
            reason = f"the first reason: {record.first}" if record.first else "they are empty"
            raise InputError(f"no row of the inputs can be used; {reason}")
    return ImportResult(StructureStore(path), record.rejected, record.path if record.rejected else None)


def open_data(
    sources: str | Sequence[str],
    targets: Sequence[str | Label] = (),
    options: ReadOptions | None = None,
    policy: ConformerPolicy | None = None,
    processes: int = 0,
    progress: Callable[[], None] | None = None,
    sample: int = 0,
    seed: int = 0,
    descriptors: bool = False,
    conformers: int = 1,
) -> StructureStore:
    """A store as it is; anything else imported into a store of the cache, once for the same files and labels.

    `sources` are a store, or files, folders and SMILES; `targets` the labels to import, see `parse_targets`;
    `conformers` the number of each molecule without coordinates; all else is as for `import_inputs`.

    Raises:
        StoreError: the store is missing or damaged.
        InputError: see `import_inputs`.
    """
    from molformer.data.labels import parse_targets

    inputs = [sources] if isinstance(sources, str) else list(sources)
    if len(inputs) == 1 and not (is_file(inputs[0]) and suffix_of(Path(inputs[0])) != ".safetensors"):
        store = StructureStore(inputs[0])
        if not descriptors or any(name.startswith(DESCRIPTOR) for name in store.labels):
            return store
        inputs = [str(store.path)]
    chosen = [name for name in targets if isinstance(name, Label) or not name.startswith(DESCRIPTOR)]
    if any(suffix_of(Path(name)) == ".safetensors" for name in inputs):
        chosen = []  # all labels that the inputs name: a list of SMILES beside a store has none
    labels = parse_targets(chosen, inputs)
    options, policy = replace(options or ReadOptions(), targets=labels), policy or ConformerPolicy()
    facts = [__version__, str(FORMAT), str(labels), options.smiles_column, *(_stamp(name) for name in inputs)]
    facts += [f"sample {sample} {seed}"] * bool(sample) + ["descriptors"] * descriptors
    choices = (policy.salts, options.censored)
    if not descriptors or choices != ("largest", "bounds"):  # stores of pretraining, which take hours, keep their key
        facts += ["groups by connectivity", *choices]
    facts += [f"conformers {conformers}"] * (conformers > 1)
    key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    path = cache_folder() / "stores" / f"{Path(inputs[0]).stem}-{key}.safetensors"
    if not path.is_file():
        geometries = cache_folder() / "geometries"
        policy = replace(policy, num_conformers=conformers)
        import_inputs(inputs, path, options, policy, processes, "", progress, geometries, sample, seed, descriptors)
    return StructureStore(path)


def _stamp(name: str) -> str:
    """Fingerprint of an input: path, size and modification time."""
    if not is_file(name):
        return name
    try:
        status = os.stat(name)
    except OSError as error:
        raise InputError(f"cannot read '{name}': {error.strerror}") from None
    return f"{Path(name).resolve()} {status.st_size} {status.st_mtime_ns}"


class _Record:
    """CSV file of rejected rows."""

    def __init__(self, path: Path, draft: Path) -> None:
        self.path, self._draft = path, draft
        self.rows = self.rejected = 0
        self.first: MolformerError | None = None
        self._add(["row", "name", "where", "status", "reason", "smiles"])

    def _add(self, cells: Sequence[str]) -> None:
        with open(self._draft, "a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow([plain_field(cell) for cell in cells])

    def count(self, entry: Entry, error: MolformerError | None) -> None:
        """Count a row, and record its error, if any."""
        self.rows += 1
        if error is not None:
            self.rejected += 1
            self.first = self.first or error
            self._add([str(self.rows), entry.name, entry.where, error.status, str(error), entry.smiles])

    def publish(self) -> None:
        """Publish the file, or remove an older one if no row was rejected."""
        with writing(self.path, StoreError):
            if self.rejected:
                os.replace(self._draft, self.path)
            else:
                self.path.unlink(missing_ok=True)


def _add(writer: StoreWriter, entry: Entry) -> MolformerError | None:
    """Add an entry's structure, called as its row is; the error if it does not fit the store."""
    assert entry.structure is not None
    structure = entry.structure.annotated(name=entry.name)
    try:
        if structure.group < 0 and structure.smiles:
            structure = structure.annotated(group=group_of(structure.smiles))
        writer.add(with_labels(structure, entry.conformers))
    except InputError as error:
        return error
    return None


def _labels_of(inputs: Sequence[str | Path], options: ReadOptions) -> dict[str | Path, tuple[Label, ...]]:
    """Labels that each input is read with: the targets, or without any those that it has itself."""
    known: dict[str, Label] = {label.name: label for label in options.targets}
    own: dict[str | Path, list[Label]] = {}
    for name in inputs:
        if not is_file(name):
            continue
        path = Path(name)
        if not path.exists():
            raise InputError(f"there is no file '{path}'")
        own[name] = format_of(path).labels(path, options)
        for label in own[name]:
            first = known.setdefault(label.name, label)
            if first != label:
                raise InputError(
                    f"'{path}' has '{label.name}' as {label.kind} in '{label.unit}', an earlier input as {first.kind} "
                    f"in '{first.unit}': import them apart"
                )
    missing = _missing(inputs, options)
    if not options.targets and known:
        shown = (f"{label.name} ({', '.join(filter(None, (label.kind, label.unit)))})" for label in known.values())
        logger.info("labels: %s", ", ".join(shown))
    if options.targets:
        own = {name: list(known.values()) for name in inputs}
    return {name: tuple(label for label in labels if label.name not in missing) for name, labels in own.items()}


def _missing(inputs: Sequence[str | Path], options: ReadOptions) -> set[str]:
    """Targets that no input has, as far as inputs list their labels."""
    missing, seen = {target.name for target in options.targets}, set[str]()
    for path in (Path(name) for name in inputs if is_file(name)):
        names = format_of(path).names
        if names is None:
            return set()
        for name in names(path, options) if missing else ():
            missing.discard(name)
            seen.add(name)
            if not missing:
                break
    if missing and not (options.allow_missing and len(missing) < len(options.targets)):
        name, by_key = min(missing), {other.lower(): other for other in sorted(seen)}
        near = [by_key[key] for key in get_close_matches(name.lower(), by_key, cutoff=0.5)] or sorted(seen)[:10]
        hint = f"perhaps {' or '.join(near)}" if near else "they have none"
        raise InputError(f"no row of the inputs has a label '{name}': {hint}")
    return missing


def drawn(entries: Iterable[Entry], count: int, seed: int) -> list[Entry]:
    """Random entries of an iterator of any length; a smaller draw is the beginning of a larger one."""

    def place(entry: Entry) -> bytes:
        return hashlib.blake2b(f"{seed} {entry.smiles}".encode(), digest_size=8).digest()

    return heapq.nsmallest(count, entries, place)


def _entries(
    inputs: Sequence[str | Path],
    options: ReadOptions,
    own: Mapping[str | Path, tuple[Label, ...]],
    sample: int,
    seed: int,
) -> Iterator[Entry]:
    """Entries of all inputs, each with its own labels, with distinct groups for different inputs."""
    start = 0
    for name in inputs:
        end = start
        entries = read_input(name, replace(options, targets=own.get(name, ())))
        if sample and not own.get(name):
            entries = iter(drawn(entries, sample, seed))
        for entry in entries:
            if entry.structure is not None and entry.structure.group >= 0:
                group = start + entry.structure.group
                end = max(end, group + 1)
                entry = replace(entry, structure=replace(entry.structure, group=group))
            yield entry
        start = end

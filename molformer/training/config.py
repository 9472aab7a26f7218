"""The settings of a training run, flat, as they stand in a YAML file."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from molformer.data.augmentation import PointAugmentation
from molformer.data.cloud_dataset import CloudOptions, Sampling
from molformer.data.labels import split_target
from molformer.data.splits import SplitMethod, SplitPolicy
from molformer.errors import ConfigError
from molformer.kernels import Kernels
from molformer.models.targets import ForcesFrom
from molformer.nn.readout import Pooling
from molformer.targets.losses import LossName

Precision = Literal["32", "64", "tf32", "bf16-mixed"]
WandbMode = Literal["auto", "online", "offline", "off"]

OBJECTIVES = ("denoising", "masking", "descriptors")
"""Losses that need no labels, see `molformer.training.objectives`."""

_SMALLEST = {
    1: ("batch_size", "accumulate", "epochs", "patience", "devices", "nodes"),
    0: ("epoch_size", "batch_atoms", "batch_edges", "points", "workers", "noise", "noise_weight", "freeze", "sample"),
}

_CHOICES = {
    "loss": get_args(LossName),
    "forces": get_args(ForcesFrom),
    "precision": get_args(Precision),
    "wandb": get_args(WandbMode),
    "pooling": get_args(Pooling),
    "device": ("auto", "cpu", "cuda"),
    "sampling": get_args(Sampling),
    "kernels": get_args(Kernels),
}


@dataclass(frozen=True)
class TrainingConfig:
    """Data, targets and optimisation of a run; the encoder has a config of its own.

    Args:
        data: what to learn from: a structure store, or files of molecules (one, or a list), imported on first use.
        targets: names of the labels to learn, several at once; for files, also NAME=KIND,UNIT.
        smiles_column: column of a table that holds the SMILES; found by its name if empty.
        run: folder that the run writes, which must not hold another run; if empty, a new one in `runs`.
        initial: model folder, run folder or name of a shipped model whose encoder the run starts from; its sizes are
            kept, and the heads of targets that it has under the same name and kind. Empty for none.
        encoder_rate: share of the learning rate that an encoder from `initial` gets; 0.05 to 1.
        freeze: how many of its first layers stay as they are.
        split: share of the molecules in training, validation and test, or how many of them; with 0 there is no
            validation or no test part.
        split_by: `random`, `scaffold`, `stratified` (by `split_label`) or `file` (`split_file`).
        split_label: label whose classes or range a stratified split keeps in shares.
        split_file: JSON with the lists `train`, `val` and `test`, such as another run's `split.json`.
        folds: parts of a cross-validation, 0 for none.
        fold: which of them is the test part, from 0.
        seed: of the split, the initial weights and the order of the batches.
        pooling: readout of intensive targets and classes, `attention`, `mean` or `max`.
        forces: `conservative`, minus the gradient of the energy; or `direct`, a readout of their own, which costs less
            and does not conserve energy.
        batch_size: molecules a step, on all devices together; 16 to 256.
        batch_atoms: largest number of atoms a step on a device, 0 for any; batches then vary in size.
        batch_edges: the same for edges, if all atoms of a molecule were neighbours.
        accumulate: batches whose gradients are added up to a step; 1 to 16.
        epochs: passes over the training part.
        epoch_size: molecules of an epoch, 0 for the whole training part; validation and checkpoint come after each.
        learning_rate: highest rate of AdamW, after the warm-up; 1e-4 to 3e-3.
        weight_decay: of matrices; norms and biases are left alone; 0 to 0.1.
        warmup: share of the steps in which the rate rises, before its cosine to zero; 0 to 0.2.
        cooldown: share of the steps, at the end, in which the rate falls to zero after a plateau; 0.1 to 0.4. With 0 it
            falls along a cosine from the warm-up on. A run on its plateau may be resumed with more or fewer `epochs`.
        gradient_clip: largest norm of the gradient; 1 to 100.
        ema_decay: of the averaged weights, which are the ones that count; 0 turns it off.
        patience: epochs without a better validation loss before the run stops.
        loss: `mae`, `mse` or `huber`, each in units of the target's scale.
        target_weights: weight of a target's loss, 1 where it is not named.
        geometry_repeats: how often a pass over the training part has the structures whose geometry was made by a
            method, such as `given` or `etkdg+mmff`; once where it is not named.
        noise: standard deviation of noise on the positions in training, Å, which the model also learns to tell (Noisy
            Nodes, arXiv 2106.07971); 0.005 to 0.05, 0 for none.
        noise_weight: weight of that auxiliary loss where `objectives` does not name it; 0.01 to 1.
        objectives: weights of losses that need no labels: `denoising` (with `noise`), `masking` (see `mask`) and
            `descriptors`, RDKit's, which are added to the data where they are not there; 0 turns one off.
        mask: share of the atoms other than hydrogen whose element is hidden by `masking`; 0.05 to 0.3.
        sample: molecules that are drawn from each list of SMILES for pretraining, 0 for all.
        points: points of a cloud, for stores of point clouds; 0 for molecules. A cloud is moved to its centroid and
            scaled into the unit sphere, so that `cutoff` is a share of its radius; 0.2 to 0.5.
        sampling: how they are chosen, `random`, `farthest` or `all`.
        jitter: noise of the training clouds' points, as a share of the radius; 0 to 0.03.
        dropout: largest share of points left out of a training cloud; 0 to 0.5.
        precision: `32`, `64`, `tf32` (on a GPU; a processor has 32) or `bf16-mixed`; the last two keep frames and
            readouts in float32.
        compile: let torch.compile make the layers; not for conservative forces.
        kernels: of the attention: `plain` operations of torch, `triton`, fused ones of a GPU with the same results, or
            `auto`: fused where there is a GPU; conservative forces are computed by the plain ones all the same.
        cuda_graphs: record a training step once and replay it, which on a GPU saves most of the time of small batches;
            batches, which must have equally many molecules, are padded by a few percent. Not for noise, stochastic
            depth, derived targets such as conservative forces, compile, or several devices; periodic structures do
            without.
        device: `auto`, `cpu` or `cuda`.
        devices: how many of them, each with a process of its own.
        nodes: machines of `devices` devices each.
        workers: processes that prepare batches.
        wandb: `auto` is online with a key and offline without; `online`, `offline` or `off` decide.

    Raises:
        ConfigError: a value is out of range; the message names it.
    """

    data: str | list[str] = ""
    targets: list[str] = field(default_factory=list)
    smiles_column: str = ""
    run: str = ""
    initial: str = ""
    encoder_rate: float = 0.1
    freeze: int = 0
    split: list[float] = field(default_factory=lambda: [0.8, 0.1, 0.1])
    split_by: SplitMethod = "random"
    split_label: str = ""
    split_file: str = ""
    folds: int = 0
    fold: int = 0
    seed: int = 0
    pooling: Pooling = "attention"
    forces: ForcesFrom = "conservative"
    batch_size: int = 32
    batch_atoms: int = 0
    batch_edges: int = 0
    accumulate: int = 1
    epochs: int = 100
    epoch_size: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    cooldown: float = 0.0
    gradient_clip: float = 10.0
    ema_decay: float = 0.999
    patience: int = 30
    loss: LossName = "mae"
    target_weights: dict[str, float] = field(default_factory=dict)
    geometry_repeats: dict[str, int] = field(default_factory=dict)
    noise: float = 0.0
    noise_weight: float = 0.1
    objectives: dict[str, float] = field(default_factory=dict)
    mask: float = 0.15
    sample: int = 0
    points: int = 0
    sampling: Sampling = "random"
    jitter: float = 0.0
    dropout: float = 0.0
    precision: Precision = "32"
    compile: bool = False
    kernels: Kernels = "auto"
    cuda_graphs: bool = False
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    workers: int = 0
    wandb: WandbMode = "auto"

    def __post_init__(self) -> None:
        if not self.data:
            raise ConfigError("no data: set `data` to a structure store or a file of molecules")
        if not self.targets:
            raise ConfigError("no targets: set `targets` to the names of labels of the data")
        for smallest, names in _SMALLEST.items():
            for name in names:
                if not getattr(self, name) >= smallest:
                    raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {smallest}")
        for name in ("learning_rate", "warmup", "cooldown", "ema_decay", "weight_decay", "encoder_rate", "mask"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")
        if not self.gradient_clip > 0:
            raise ConfigError(f"gradient_clip is {self.gradient_clip}; it must be positive")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} is '{getattr(self, name)}'; choose one of {', '.join(choices)}")
        if unknown := set(self.target_weights) - set(self.target_names):
            raise ConfigError(f"target_weights names '{min(unknown)}', which is not among the targets")
        for name, count in self.geometry_repeats.items():
            if count < 0:
                raise ConfigError(f"geometry_repeats of '{name}' is {count}; it must be at least 0")
        if self.points and self.geometry_repeats:
            raise ConfigError("geometry_repeats are for molecules, not for point clouds")
        if self.points and len(self.targets) != 1:
            raise ConfigError("a run on point clouds has one target, the class")
        if unknown := set(self.objectives) - set(OBJECTIVES):
            raise ConfigError(f"objectives names '{min(unknown)}'; there are {', '.join(OBJECTIVES)}")
        if min(self.objectives.values(), default=0.0) < 0:
            raise ConfigError("a weight of objectives is negative; 0 turns one off")
        if self.objectives.get("denoising") and not self.noise:
            raise ConfigError("the objective denoising needs noise on the positions: set noise to 0.02 or 0.05 Å")
        if self.sample and not self.objectives.get("descriptors"):
            raise ConfigError("sample is for pretraining with descriptors: give them a weight in objectives")
        if self.cuda_graphs and (self.objective_weights or self.compile or self.devices * self.nodes > 1):
            raise ConfigError("cuda_graphs is not for noise, objectives, compile or several devices: turn one off")
        if self.cuda_graphs and (self.batch_atoms or self.batch_edges):
            raise ConfigError("cuda_graphs wants batches of equally many molecules: not batch_atoms or batch_edges")
        if self.freeze and not self.initial:
            raise ConfigError("freeze is for a run that starts from a trained model: set `initial`")
        self.split_policy()
        self.cloud_options()

    def cloud_options(self) -> CloudOptions:
        """What becomes of a point cloud.

        Raises:
            ConfigError: a value is out of its range.
        """
        augmentation = PointAugmentation(jitter=self.jitter, dropout=self.dropout)
        return CloudOptions(max(1, self.points), self.sampling, augmentation=augmentation)

    @property
    def objective_weights(self) -> dict[str, float]:
        """Weights of the objectives that are not off."""
        weights = {"denoising": self.noise_weight} | self.objectives
        return {name: weight for name, weight in weights.items() if weight and (self.noise or name != "denoising")}

    @property
    def target_names(self) -> list[str]:
        """Names of the targets, without what is said of their kind."""
        return [split_target(text)[0] for text in self.targets]

    def split_policy(self) -> SplitPolicy:
        """How the data are split.

        Raises:
            ConfigError: the values do not fit each other.
        """
        return SplitPolicy(
            self.split_by, tuple(self.split), self.seed, self.split_label, self.split_file, self.folds, self.fold
        )

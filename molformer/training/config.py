"""Settings of a training run, the flat keys of a YAML file."""

from dataclasses import dataclass, field
from typing import Literal

from molformer.data.augmentation import CloudOptions, PointAugmentation, Sampling
from molformer.data.labels import split_target
from molformer.data.readers.entry import Censored
from molformer.data.splits import SplitMethod, SplitPolicy
from molformer.errors import ConfigError, check_choices
from molformer.kernels import Kernels
from molformer.models.descriptors import DescriptorChoice, DescriptorReadoutName
from molformer.models.targets import ForcesFrom
from molformer.nn.readout import Pooling
from molformer.structure import Salts
from molformer.targets.losses import LossName

Precision = Literal["32", "64", "tf32", "bf16-mixed"]
WandbMode = Literal["auto", "online", "offline", "off"]
Device = Literal["auto", "cpu", "cuda"]

OBJECTIVES = ("denoising", "masking", "descriptors")  #: losses that need no labels, see `molformer.training.objectives`

_SMALLEST = {
    1: ("batch_size", "accumulate", "epochs", "patience", "devices", "nodes", "conformers", "ensemble"),
    0: ("epoch_size", "batch_atoms", "batch_edges", "points", "workers", "noise", "noise_weight", "freeze", "sample"),
}

_SHARES = ["learning_rate", "warmup", "cooldown", "ema_decay", "weight_decay", "encoder_rate", "layer_decay", "mask"]


@dataclass(frozen=True)
class TrainingConfig:
    """Data, targets and optimisation of a run; see `SE3TransformerConfig` for the encoder.

    Args:
        data: training data: a structure store, or files of molecules (one, or a list), imported on first use.
        targets: names of the labels to predict; also NAME=KIND, such as mu=vector_length; for files NAME=KIND,UNIT.
        smiles_column: SMILES column of a table; detected by its name if empty.
        salts: for a SMILES of several parts, `refuse` its row, use the `largest` part, or `keep` all.
        censored: values such as `>5` and `<0.1` are `bounds`, with a loss where a prediction lies on the wrong side and
            without an influence on metrics; or their rows are left out (`refuse`).
        baselines: compare with a random forest on ECFP4 fingerprints and gradient boosting on RDKit's descriptors, on
            the same split; for at most 20,000 molecules that are given as SMILES.
        run: output folder, which must not contain another run; if empty, a new one in `runs`.
        initial: model folder, run folder or name of a shipped model, of which the encoder and the heads of targets with
            the same name and kind initialise the weights. Empty for none.
        encoder_rate: learning rate of an encoder from `initial`, relative to that of the heads; 0.05 to 1.
        layer_decay: factor of its learning rate from each layer to the one before it; 0.7 to 1.
        freeze: number of its first layers that are frozen.
        split: fractions or numbers of molecules in training, validation and test part; the last two may be 0.
        split_by: `random`, `scaffold`, `stratified` (by `split_label`), `file` (`split_file`), or `auto`: by scaffold
            for molecules that are given as SMILES, else random. Rows of one molecule are in one part.
        split_label: label by which a stratified split is stratified.
        split_file: JSON with the lists `train`, `val` and `test`, such as another run's `split.json`.
        folds: number of folds of a cross-validation, 0 for none.
        fold: index of the fold that is the test part, from 0.
        ensemble: number of models, trained with different seeds on one split, whose mean is predicted; 1 to 10.
        seed: of the split, the initial weights and the order of the batches.
        pooling: readout of intensive targets and classes, `attention`, `mean` or `max`.
        descriptors: of the molecular graph, joined to the readout of numbers and classes of a molecule: those of
            `rdkit`, `ecfp` (counts of circular substructures), `both` or `none`. For tables of SMILES.
        descriptor_readout: how they are joined: `mlp`, a feed-forward network; or `gaussian_process`, which is fitted
            to the training part before the network learns what is left, with pairs of atoms and torsions beside `ecfp`.
        forces: `conservative`, minus the gradient of the energy; or `direct`, a separate head, which costs less and
            does not conserve energy.
        batch_size: molecules per batch, over all devices; 16 to 256.
        batch_atoms: largest number of atoms in a batch on a device, 0 for no limit; batches then vary in size.
        batch_edges: the same for edges of fully connected molecules.
        accumulate: batches per optimiser step; 1 to 16.
        epochs: passes over the training part.
        epoch_size: molecules of an epoch, 0 for the whole training part; each is followed by validation and checkpoint.
        learning_rate: peak learning rate of AdamW, after the warm-up; 1e-4 to 3e-3.
        weight_decay: of matrices, not of norms and biases; 0 to 0.1.
        warmup: fraction of the steps with increasing learning rate; 0 to 0.2.
        cooldown: fraction of the steps, at the end, in which a constant rate decays to zero; 0.1 to 0.4. With 0 the
            rate follows a cosine after the warm-up. A run at constant rate may be resumed with other `epochs`.
        gradient_clip: maximum norm of the gradient; 1 to 100.
        ema_decay: decay of the exponential moving average of the weights, which is validated and saved; 0 disables it.
        patience: epochs without a lower validation loss before early stopping.
        loss: `mae`, `mse` or `huber`, each in units of the target's scale.
        target_weights: loss weight by target; 1 by default.
        conformers: of each molecule of a table; an epoch has one, drawn at random, and predictions are means; 1 to 5.
        geometry_repeats: repetitions per epoch of the structures with a geometry of some origin, such as `given` or
            `etkdg+mmff`; 1 by default.
        noise: standard deviation of noise on the positions in training, Å, predicted as an auxiliary task (Noisy Nodes,
            arXiv 2106.07971); 0.005 to 0.05, 0 for none.
        noise_weight: weight of that auxiliary loss unless `objectives` names it; 0.01 to 1.
        objectives: weights of self-supervised losses: `denoising` (with `noise`), `masking` (see `mask`) and
            `descriptors` of RDKit, which are added to the data where they are missing; 0 disables one.
        mask: fraction of the heavy atoms whose element is hidden by `masking`; 0.05 to 0.3.
        sample: number of molecules drawn from each list of SMILES for pretraining, 0 for all.
        points: number of points of a cloud, for stores of point clouds; 0 for molecules. Clouds are centered and scaled
            to the unit sphere, so that `cutoff` is relative to the radius; 0.2 to 0.5.
        sampling: of the points, `random`, `farthest` or `all`.
        jitter: standard deviation of noise on the points in training, relative to the radius; 0 to 0.03.
        dropout: largest fraction of points dropped from a cloud in training; 0 to 0.5.
        precision: `32`, `64`, `tf32` (on a GPU) or `bf16-mixed`; the last two compute Wigner matrices and readouts in
            float32.
        compile: compile the blocks by torch.compile; not for conservative forces.
        kernels: of the attention: `plain` operations of torch, `triton` (fused, on a GPU, with the same results), or
            `auto`: fused on a GPU; conservative forces always use the plain operations.
        cuda_graphs: capture a training step as a CUDA graph and replay it, which reduces the launch overhead of small
            batches; batches must have the same number of molecules and are padded by a few percent. Not for noise,
            stochastic depth, derived targets such as conservative forces, compile, or several devices; periodic
            structures are computed without.
        device: `auto`, `cpu` or `cuda`.
        devices: number of devices, each with its own process.
        nodes: number of machines, each with `devices` devices.
        workers: number of data-loading processes.
        wandb: `auto` is online with a key and offline without; `online`, `offline` or `off` decide.

    Raises:
        ConfigError: a value is out of range; the message names it.
    """

    data: str | list[str] = ""
    targets: list[str] = field(default_factory=list)
    smiles_column: str = ""
    salts: Salts = "refuse"
    censored: Censored = "bounds"
    baselines: bool = True
    run: str = ""
    initial: str = ""
    encoder_rate: float = 0.1
    layer_decay: float = 1.0
    freeze: int = 0
    split: list[float] = field(default_factory=lambda: [0.8, 0.1, 0.1])
    split_by: SplitMethod = "random"
    split_label: str = ""
    split_file: str = ""
    folds: int = 0
    fold: int = 0
    ensemble: int = 1
    seed: int = 0
    pooling: Pooling = "attention"
    descriptors: DescriptorChoice = "none"
    descriptor_readout: DescriptorReadoutName = "mlp"
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
    conformers: int = 1
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
    device: Device = "auto"
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
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")
        if not self.gradient_clip > 0:
            raise ConfigError(f"gradient_clip is {self.gradient_clip}; it must be positive")
        check_choices(self)
        if unknown := set(self.target_weights) - set(self.target_names):
            raise ConfigError(f"target_weights names '{min(unknown)}', which is not among the targets")
        for name, count in self.geometry_repeats.items():
            if count < 0:
                raise ConfigError(f"geometry_repeats of '{name}' is {count}; it must be at least 0")
        if self.points and (self.geometry_repeats or self.conformers > 1):
            raise ConfigError("geometry_repeats and conformers are for molecules, not for point clouds")
        if self.ensemble > 1 and self.devices * self.nodes > 1:
            raise ConfigError("the models of an ensemble are trained on one device: set devices and nodes to 1")
        if self.descriptors != "none" and (self.points or self.cuda_graphs):
            raise ConfigError(f"descriptors: {self.descriptors} is not for point clouds or cuda_graphs: set it to none")
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
    def summary(self) -> str:
        """What a run starts from, and what is made of few molecules; empty if that is nothing special."""
        rates = f": encoder rate {self.encoder_rate:g}, layer-wise rates {self.layer_decay:g}"
        parts = [f"fine-tunes from {self.initial}{rates}"] * bool(self.initial)
        parts += [f"first {self.freeze} layers frozen"] * (self.freeze > 0)
        parts += [f"{self.conformers} conformers"] * (self.conformers > 1)
        parts += [f"ensemble of {self.ensemble}"] * (self.ensemble > 1)
        return ", ".join(parts)

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

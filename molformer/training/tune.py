"""Hyperparameter search with Optuna (arXiv 1907.10902); every trial is a training run, and poor ones are pruned.

The folder of a search holds `study.log`, from which it is resumed, and a run folder for each trial.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightning import Callback, LightningModule, Trainer

from molformer.errors import ConfigError, TrainingError, extra
from molformer.models.renamed import current_name
from molformer.training.arguments import KEYS, read_configs
from molformer.training.run import train

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Range:
    """Search space of one key."""

    key: str  #: of a config
    low: float = 0.0  #: lower bound; the scale is logarithmic if `high` is at least ten times as large
    high: float = 0.0  #: upper bound
    choices: tuple[str, ...] = ()  #: categorical values, instead of a range

    @classmethod
    def parse(cls, text: str) -> "Range":
        """From KEY=LOW:HIGH or KEY=A,B,C.

        Raises:
            ConfigError: it is neither, or there is no such key.

        Example:
            >>> Range.parse("learning_rate=1e-4:3e-3")
            Range(key='learning_rate', low=0.0001, high=0.003, choices=())
            >>> Range.parse("channels=32,64").choices
            ('32', '64')
        """
        key, _, values = text.partition("=")
        key = current_name(key)
        if key not in KEYS:
            raise ConfigError(f"'{text}' varies an unknown key; `molformer settings` lists the keys")
        if "," in values:
            return cls(key, choices=tuple(value.strip() for value in values.split(",")))
        try:
            low, high = (float(value) for value in values.split(":"))
        except ValueError:
            raise ConfigError(f"'{text}' is not KEY=LOW:HIGH or KEY=A,B,C") from None
        if not low < high:
            raise ConfigError(f"'{text}' is an empty range: put the smaller number first")
        return cls(key, low, high)

    def suggest(self, trial: "optuna.Trial") -> str:
        """A value for a trial, as a command line takes it."""
        if self.choices:
            return str(trial.suggest_categorical(self.key, self.choices))
        whole = self.low.is_integer() and self.high.is_integer()
        log = self.low > 0 and self.high >= 10 * self.low
        if whole:
            return str(trial.suggest_int(self.key, int(self.low), int(self.high), log=log))
        return repr(trial.suggest_float(self.key, self.low, self.high, log=log))


def tune(
    config: str | None,
    overrides: Sequence[str],
    ranges: Sequence[Range],
    trials: int,
    folder: Path,
    report: Callable[[str], None] = lambda text: None,
) -> "optuna.Study":
    """Search for the lowest validation loss.

    Args:
        config: YAML file of the fixed settings, or None.
        overrides: further settings, `--key value`.
        ranges: search space.
        trials: total number of runs, including those of earlier calls.
        folder: of the search.
        report: called with a line for each trial.

    Raises:
        ConfigError: Optuna is not installed, the search space is empty, or a setting is invalid.
    """
    with extra("tune", "tuning needs Optuna"):
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    if not ranges:
        raise ConfigError("nothing is varied: use --vary, such as --vary learning_rate=1e-4:3e-3")
    read_configs(config, overrides)  # validates the settings
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="molformer",
        storage=JournalStorage(JournalFileBackend(str(folder / "study.log"))),
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2),
        load_if_exists=True,
    )

    def objective(trial: "optuna.Trial") -> float:
        chosen = [argument for item in ranges for argument in (f"--{item.key}", item.suggest(trial))]
        run = folder / f"trial-{trial.number:03d}"
        watch = _Watch(trial)
        try:
            changed = [*overrides, *chosen, "--run", str(run), "--baselines", "false", "--ensemble", "1"]
            train(*read_configs(config, changed), watch)
        except TrainingError as error:
            report(f"trial {trial.number}: {' '.join(chosen)}: {error}")
            raise optuna.TrialPruned from None
        report(f"trial {trial.number}: {' '.join(chosen)}: validation loss {watch.best:.4f}")
        return watch.best

    done = sum(trial.state.is_finished() for trial in study.trials)
    study.optimize(objective, n_trials=max(0, trials - done))
    return study


class _Watch(Callback):
    """Reports the validation loss of each epoch to the trial, and stops pruned runs."""

    def __init__(self, trial: "optuna.Trial") -> None:
        self.trial = trial
        self.best = math.inf

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = float(trainer.callback_metrics["val/loss"])
        self.best = min(self.best, loss)
        self.trial.report(loss, trainer.current_epoch)
        if self.trial.should_prune():
            trainer.should_stop = True

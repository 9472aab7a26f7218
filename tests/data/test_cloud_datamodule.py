from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer

from molformer.data.augmentation import PointAugmentation
from molformer.data.cloud_datamodule import CloudOptions, PointCloudDataModule
from molformer.data.store import write_store
from molformer.data.structure import Label, Structure
from molformer.errors import ConfigError, StoreError

CLASS = Label("class", "", "category", classes=("many", "few"))
MODELNET = Path(__file__).parents[3] / "shared" / "data" / "modelnet10_voxels_train.npz"


@pytest.fixture
def store(tmp_path):
    """40 clouds, a quarter of class `few`; the first feature is the row of the store, the second that of the point."""
    rng = np.random.default_rng(0)
    clouds = []
    for row in range(40):
        count = 20 + row
        features = np.stack([np.full(count, row), np.arange(count)], axis=1)
        pos = rng.normal(size=(count, 3)) + row
        clouds.append(Structure(np.zeros(count), pos, features=features, labels={"class": row % 4 == 0}))
    return str(write_store(tmp_path / "clouds", clouds, [CLASS]).path)


def draws(loader):
    """What was drawn: rows of the store and points, in order."""
    return torch.cat([batch.features for batch in loader]).tolist()


def test_batches_are_clouds_of_the_store_with_their_class(store):
    data = PointCloudDataModule(store, options=CloudOptions(points=25, normalise=False), batch_size=3)
    batch = next(iter(data.train_dataloader()))
    assert batch.num_graphs == 3
    rows = batch.features[batch.ptr[:-1], 0].long()
    assert batch.labels["class"].tolist() == (rows % 4 == 0).tolist()
    assert batch.sizes.tolist() == (20 + rows).clamp(max=25).tolist()
    for start, end, row in zip(batch.ptr[:-1], batch.ptr[1:], rows.tolist(), strict=True):
        points = batch.features[start:end, 1].long().numpy()
        assert np.allclose(batch.pos[start:end], data.store[row].pos[points])
    assert (batch.numbers == 0).all()


def test_each_part_has_its_share_of_each_class(store):
    split = PointCloudDataModule(store, split=(0.6, 0.2, 0.2)).split
    parts = (split.train, split.val, split.test)
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    assert [sum(part % 4 == 0) for part in parts] == [6, 2, 2]


@pytest.mark.parametrize("sampling", ["random", "farthest"])
def test_what_is_drawn_depends_on_seed_and_epoch_and_not_on_the_batch(store, sampling):
    def module(**kwargs):
        options = CloudOptions(points=10, sampling=sampling, augmentation=PointAugmentation(jitter=0.1, dropout=0.3))
        return PointCloudDataModule(store, options=options, **kwargs)

    def train(epoch=0, **kwargs):
        loader = module(**kwargs).train_dataloader()
        loader.sampler.set_epoch(epoch)
        return draws(loader)

    assert train(batch_size=4) == train(batch_size=8) == train(batch_size=4, workers=1)
    assert train(epoch=1) == train(epoch=1)
    assert sorted(train(epoch=1)) != sorted(train(epoch=0))  # other points, not another order alone
    assert sorted({row for row, _ in train(batch_size=4)}) == module().split.train.tolist()
    assert train(seed=1, split=(1 / 3, 1 / 3, 1 / 3)) != train(seed=0, split=(1 / 3, 1 / 3, 1 / 3))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's, with torch 2.13
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_lightning_gives_every_epoch_its_own_draw_and_a_resumed_one_the_same(store, tmp_path):
    class Recorder(LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.seen = []

        def training_step(self, batch):
            self.seen.append((self.current_epoch, batch.features.tolist(), batch.pos.sum().item()))
            return self.weight

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

        def transfer_batch_to_device(self, batch, device, dataloader_idx):
            return batch

    def run(epochs, checkpoint=None):
        options = CloudOptions(points=10, augmentation=PointAugmentation(jitter=0.1))
        module, data = Recorder(), PointCloudDataModule(store, options=options, batch_size=16)
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(module, train_dataloaders=data.train_dataloader(), ckpt_path=checkpoint)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return module.seen

    whole = run(3)
    assert whole[0][1] != whole[2][1] != whole[4][1]
    run(2)
    assert run(3, tmp_path / "2.ckpt") == whole[4:]


def test_only_training_is_augmented_and_shuffled(store):
    options = CloudOptions(sampling="all", normalise=False, augmentation=PointAugmentation(jitter=5, dropout=0.9))
    data = PointCloudDataModule(store, options=options, batch_size=2)
    for loader, part in ((data.val_dataloader(), data.split.val), (data.test_dataloader(), data.split.test)):
        batches = list(loader)
        assert torch.cat([batch.pos for batch in batches]).tolist() == [
            point for row in part.tolist() for point in data.store[row].pos.tolist()
        ]
        loader.sampler.set_epoch(3)
        assert draws(loader) == draws(batches)
    rows = [row for row, _ in draws(data.train_dataloader())]
    assert len(rows) < sum(20 + row for row in data.split.train.tolist())
    assert rows != sorted(rows)


def test_clouds_are_normalised_if_asked_for(store):
    batch = next(iter(PointCloudDataModule(store, options=CloudOptions(points=12)).val_dataloader()))
    assert batch.mean_over_graphs(batch.pos).abs().max() < 1e-6
    radius = batch.pos.norm(dim=-1)
    for start, end in zip(batch.ptr[:-1], batch.ptr[1:], strict=True):
        assert radius[start:end].max().item() == pytest.approx(1)


def test_options_that_do_not_fit_are_refused(store):
    with pytest.raises(ConfigError, match="sampling 'best'"):
        CloudOptions(sampling="best")
    with pytest.raises(ConfigError, match="at least 1"):
        CloudOptions(points=0)
    with pytest.raises(StoreError, match="no label 'kind'"):
        PointCloudDataModule(store, target="kind")


@pytest.mark.skipif(not MODELNET.is_file(), reason="../shared/data is not there")
def test_modelnet_from_file_to_batches(tmp_path):
    from molformer.data.readers import ReadOptions
    from molformer.data.readers.points import FORMAT

    (label,) = FORMAT.labels(MODELNET, ReadOptions())
    entries = (entry for row, entry in enumerate(FORMAT.read(MODELNET, ReadOptions())) if row % 40 == 0)
    store = write_store(tmp_path / "modelnet", (entry.structure for entry in entries), [label])
    assert len(store) == 97
    data = PointCloudDataModule(str(store.path), options=CloudOptions(points=128, sampling="farthest"))
    batch = next(iter(data.train_dataloader()))
    assert batch.pos.shape[0] == 32 * 128 - sum((128 - batch.sizes).tolist())
    assert set(batch.labels["class"].tolist()) <= set(range(10))

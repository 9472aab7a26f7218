import pytest
import torch

from molformer.training.losses import class_loss, masked_loss

NAN = float("nan")


@pytest.mark.parametrize(("loss", "expected"), [("mae", 1.5), ("mse", 2.5), ("huber", (0.5 + 1.5) / 2)])
def test_values(loss, expected):
    prediction, label = torch.tensor([2.0, 4.0]), torch.tensor([0.0, 0.0])
    assert masked_loss(prediction, label, torch.tensor(2.0), loss).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", ["mae", "mse", "huber"])
@pytest.mark.parametrize("shape", [(4,), (4, 3)])
def test_a_missing_label_changes_neither_the_value_nor_a_gradient(loss, shape):
    prediction = torch.randn(shape, requires_grad=True)
    label = torch.randn(shape)
    label[2] = NAN
    value = masked_loss(prediction, label, torch.tensor(1.3), loss)
    (gradient,) = torch.autograd.grad(value, prediction)
    kept = [0, 1, 3]
    reference = masked_loss(prediction[kept], label[kept], torch.tensor(1.3), loss)
    (expected,) = torch.autograd.grad(reference, prediction)
    assert torch.isclose(value, reference)
    assert torch.allclose(gradient, expected)
    assert not gradient[2].any()


def test_no_label_at_all_is_zero_with_zero_gradient():
    prediction = torch.randn(3, requires_grad=True)
    value = masked_loss(prediction, torch.full((3,), NAN), torch.tensor(1.0), "mae")
    value.backward()
    assert value.item() == 0
    assert not prediction.grad.any()


@pytest.mark.parametrize("loss", ["mae", "mse", "huber"])
def test_the_loss_of_a_vector_does_not_depend_on_the_frame(loss):
    from molformer.so3 import random_rotation

    prediction, label = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    turn = random_rotation().T
    scale = torch.tensor(1.0, dtype=torch.float64)
    value = masked_loss(prediction, label, scale, loss)
    assert torch.isclose(masked_loss(prediction @ turn, label @ turn, scale, loss), value)


@pytest.mark.parametrize("classes", [0, 3])
def test_a_missing_class_changes_neither_the_value_nor_a_gradient(classes):
    logits = torch.randn((4, classes) if classes else (4,), requires_grad=True)
    label = torch.tensor([0.0, 1.0, NAN, 1.0])
    value = class_loss(logits, label)
    (gradient,) = torch.autograd.grad(value, logits)
    kept = [0, 1, 3]
    reference = class_loss(logits[kept], label[kept])
    assert torch.isclose(value, reference)
    assert not gradient[2].any()
    assert class_loss(logits, torch.full((4,), NAN)).item() == 0


def test_cross_entropy_is_that_of_the_definition():
    logits = torch.tensor([[1.0, 2.0, 0.5]])
    assert class_loss(logits, torch.tensor([1.0])).item() == pytest.approx(-logits.log_softmax(-1)[0, 1].item())
    assert class_loss(torch.tensor([0.7]), torch.tensor([1.0])).item() == pytest.approx(
        -torch.tensor(0.7).sigmoid().log().item()
    )

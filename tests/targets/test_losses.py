import pytest
import torch

from molformer.targets.losses import class_loss_sum, masked_loss_sum, mean, with_bounds

NAN = float("nan")


def masked_loss(*arguments):
    return mean(*masked_loss_sum(*arguments))


def class_loss(*arguments):
    return mean(*class_loss_sum(*arguments))


@pytest.mark.parametrize(("loss", "expected"), [("mae", 1.25), ("mse", 2.125), ("huber", (0.125 + 1.5) / 2)])
def test_values(loss, expected):
    prediction, label = torch.tensor([1.0, 4.0]), torch.tensor([0.0, 0.0])
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


@pytest.mark.parametrize("loss", ["mae", "mse", "huber"])
@pytest.mark.parametrize("shape", [(9,), (9, 3), (9, 3, 3)])
def test_sums_and_counts_of_parts_give_the_mean_of_the_whole(loss, shape):
    """Parts of unequal numbers of labels, one without any: what several processes add up."""
    prediction, label = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    label[[0, 1, 7]] = NAN
    scale = torch.tensor(1.3, dtype=torch.float64)
    parts = [masked_loss_sum(prediction[rows], label[rows], scale, loss) for rows in ([0, 1], [2, 3, 4], [5, 6, 7, 8])]
    totals, counts = zip(*parts, strict=True)
    assert [count.item() for count in counts] == [0, 3, 3]
    whole = mean(torch.stack(totals).sum(), torch.stack(counts).sum())
    assert torch.isclose(whole, masked_loss(prediction, label, scale, loss))


@pytest.mark.parametrize("classes", [0, 3])
def test_sums_and_counts_of_classes(classes):
    logits = torch.randn((6, classes) if classes else (6,), dtype=torch.float64)
    label = torch.tensor([0.0, 1.0, NAN, 1.0, NAN, 0.0])
    parts = [class_loss_sum(logits[rows], label[rows]) for rows in ([0], [1, 2, 3], [4, 5])]
    totals, counts = zip(*parts, strict=True)
    assert [count.item() for count in counts] == [1, 2, 1]
    assert torch.isclose(mean(torch.stack(totals).sum(), torch.stack(counts).sum()), class_loss(logits, label))


def test_the_error_of_a_matrix_is_its_length():
    prediction = torch.zeros(2, 3, 3)
    label = torch.stack([2 * torch.eye(3), torch.full((3, 3), NAN)])
    total, count = masked_loss_sum(prediction, label, torch.tensor(1.0), "mae")
    assert (total.item(), count.item()) == (pytest.approx(12**0.5), 1)


@pytest.mark.parametrize("loss", ["mae", "mse", "huber"])
def test_a_prediction_that_cannot_be_made_is_harmless_where_its_label_is_missing(loss):
    """The stress of a molecule is NaN, and so is its label: other rows and the gradient stay finite."""
    raw = torch.randn(3, 3, 3, requires_grad=True)
    prediction = torch.where(torch.tensor([True, False, True])[:, None, None], raw, NAN)
    label = torch.where(torch.tensor([True, False, True])[:, None, None], torch.zeros(3, 3, 3), NAN)
    total, _ = masked_loss_sum(prediction, label, torch.tensor(1.0), loss)
    total.backward()
    assert total.isfinite()
    assert raw.grad.isfinite().all()
    assert not raw.grad[1].any()


def test_a_row_that_is_partly_missing_is_missing():
    label = torch.zeros(3, 3)
    label[1, 2] = NAN
    prediction = torch.ones(3, 3, requires_grad=True)
    total, count = masked_loss_sum(prediction, label, torch.tensor(1.0), "mse")
    total.backward()
    assert (total.item(), count.item()) == (pytest.approx(6.0), 2)
    assert not prediction.grad[1].any()


@pytest.mark.parametrize("loss", ["mae", "mse", "huber"])
def test_a_prediction_beyond_its_bound_has_no_loss_and_others_that_of_the_bound(loss):
    prediction = torch.tensor([1.0, 9.0, 1.0, 9.0, 3.0], requires_grad=True)
    label = torch.tensor([NAN, NAN, NAN, NAN, 2.0])
    lower, upper = torch.tensor([5.0, 5.0, NAN, NAN, NAN]), torch.tensor([NAN, NAN, 5.0, 5.0, NAN])
    one = torch.tensor(1.0)
    total, count = masked_loss_sum(prediction, with_bounds(label, prediction, lower, upper), one, loss)
    nearest = torch.tensor([5.0, 9.0, 1.0, 5.0, 2.0])
    expected, _ = masked_loss_sum(prediction.detach(), nearest, one, loss)
    assert (total.item(), count.item()) == (pytest.approx(expected.item()), 5)
    total.backward()
    assert prediction.grad.sign().tolist() == [-1, 0, 0, 1, 1]


def test_without_bounds_labels_are_as_they_are():
    label = torch.tensor([1.0, NAN])
    assert with_bounds(label, torch.zeros(2), None, None) is label

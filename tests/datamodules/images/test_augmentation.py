"""Random changes of images against torchvision, image by image."""

import math
from typing import Any

import pytest
import torch
import torchvision.transforms.functional as TF
from torch import Tensor
from torchvision.transforms import InterpolationMode

from datamodules.episode import Episode, Task
from datamodules.images.augmentation import (
    Augmentation,
    augment,
    augmented,
    draw,
    draws_of_images,
    jittered,
    windows,
)

EVERYTHING = Augmentation(crop=0.4, flip=True, rotation=25, jitter=0.6)
N, HEIGHT, WIDTH = 6, 20, 24


def random_images(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def make_episode(n_tasks: int = 5) -> Episode:
    """Three classes of two support and two query images."""
    labels = torch.arange(3).repeat_interleave(2).expand(n_tasks, 6)
    x = random_images(2, n_tasks, 6, 3, 8, 8, dtype=torch.float32)
    numbers = torch.arange(n_tasks)
    task = Task.of(x[0], labels, numbers[:, None].expand(-1, 3))
    return Episode(task, x[1], labels, numbers)


def rotated(images: Tensor, degrees: float) -> Tensor:
    return TF.rotate(images, degrees, InterpolationMode.BILINEAR)


@pytest.mark.parametrize("degrees", [-70.0, -8.0, 15.0, 90.0])
def test_a_rotation_is_torchvisions_inside_the_image(degrees: float) -> None:
    images, one = random_images(N, 3, HEIGHT, WIDTH), torch.ones(N, dtype=torch.float64)
    inside = rotated(torch.ones_like(images), degrees) > 1 - 1e-12  # beyond the edge theirs is black
    ours = windows(images, one, 0 * one, 0 * one, one * math.radians(degrees), one)
    assert inside.double().mean() > 0.5
    torch.testing.assert_close(ours[inside], rotated(images, degrees)[inside], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (10, 12), (3, 5)])
def test_a_crop_is_torchvisions_inside_the_window(top: int, left: int) -> None:
    images, one = random_images(N, 3, HEIGHT, WIDTH), torch.ones(N, dtype=torch.float64)
    theirs = TF.resized_crop(images, top, left, HEIGHT // 2, WIDTH // 2, [HEIGHT, WIDTH], antialias=False)
    x, y = 2 * left / WIDTH - 0.5, 2 * top / HEIGHT - 0.5
    ours = windows(images, one / 2, x * one, y * one, 0 * one, one)
    inner = (..., slice(1, -1), slice(1, -1))  # theirs repeats the window's edge, ours goes on in the image
    torch.testing.assert_close(ours[inner], theirs[inner], rtol=0, atol=1e-12)


def test_a_mirror_is_torchvisions() -> None:
    images, one = random_images(N, 3, HEIGHT, WIDTH), torch.ones(N, dtype=torch.float64)
    torch.testing.assert_close(windows(images, one, 0 * one, 0 * one, 0 * one, -one), TF.hflip(images))


def naive_view(image: Tensor, draws: list[float], augmentation: Augmentation) -> Tensor:
    """An affine map of torchvision's, then a mirror: (C, H, W) to (C, H, W), NaN where it looks beyond the image."""
    area, left, top, flip, angle = draws[:5]
    side = math.sqrt(augmentation.crop + (1 - augmentation.crop) * (1 - area))
    degrees = (2 * angle - 1) * augmentation.rotation
    # The window's centre in pixels from the image's: turned and scaled with the picture, it comes to lie in the middle.
    right, down = ((2 * left - 1) * (1 - side) * WIDTH / 2, (2 * top - 1) * (1 - side) * HEIGHT / 2)
    cosine, sine = math.cos(math.radians(degrees)) / side, math.sin(math.radians(degrees)) / side
    shift = [-(right * cosine + down * sine), -(down * cosine - right * sine)]

    def view(image: Tensor) -> Tensor:
        # their angle is clockwise
        return TF.affine(image, -degrees, shift, 1 / side, [0.0], InterpolationMode.BILINEAR)

    seen = torch.where(view(torch.ones_like(image)) > 1 - 1e-9, view(image), torch.nan)
    return TF.hflip(seen) if augmentation.flip and flip < 0.5 else seen


def test_draws_become_windows_angles_and_mirrors() -> None:
    images, augmentation = random_images(2, 30, 3, HEIGHT, WIDTH), Augmentation(0.4, flip=True, rotation=25)
    draws = draw(0, 7, torch.arange(2), 30)
    ours = augment(images, draws, augmentation)
    compared = 0
    for image, its, row in zip(images.flatten(0, 1), ours.flatten(0, 1), draws.flatten(0, 1), strict=True):
        theirs = naive_view(image, row.tolist(), augmentation)
        inside = ~theirs.isnan()
        torch.testing.assert_close(its[inside], theirs[inside], rtol=0, atol=1e-5)  # their affine map is in float32
        compared += int(inside.sum())
    assert compared > 0.8 * images.numel()


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_torchvisions(channels: int) -> None:
    images = random_images(N, channels, HEIGHT, WIDTH)
    factors = random_images(3, N) * 2
    ours = jittered(images, *factors)
    for image, its, (brightness, contrast, saturation) in zip(images, ours, factors.T.tolist(), strict=True):
        image = TF.adjust_contrast(TF.adjust_brightness(image, brightness), contrast)
        torch.testing.assert_close(its, TF.adjust_saturation(image, saturation), rtol=0, atol=1e-12)


def test_draws_become_factors_of_colours_after_the_windows() -> None:
    images, draws = random_images(2, 4, 3, HEIGHT, WIDTH), draw(0, 7, torch.arange(2), 4)
    moved = augment(images, draws, Augmentation(crop=0.4, flip=True, rotation=25))
    factors = 0.4 + 1.2 * draws[..., 5:].double()  # [1 - 0.6, 1 + 0.6]
    expected = jittered(moved.flatten(0, 1), *factors.flatten(0, 1).T).view_as(images)
    torch.testing.assert_close(augment(images, draws, EVERYTHING), expected)
    darkest = augment(images, torch.zeros_like(draws), Augmentation(jitter=3.0))  # no factor is below 0
    assert darkest.abs().max() == 0


def test_windows_lie_inside_the_image_and_keep_any_share_of_it_equally_often() -> None:
    ramps = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")) / 63  # down, across
    n = 2000
    views = augment(ramps.expand(1, n, 2, 64, 64), draw(0, 7, torch.zeros(1).long(), n), Augmentation(crop=0.3))[0]
    assert views.min() > -1e-6
    assert views.max() < 1 + 1e-6
    middle = views[:, :, 16:48, 16:48]  # away from the edge, where half a pixel is repeated
    sides = torch.stack([(middle[:, 0, -1, 0] - middle[:, 0, 0, 0]), (middle[:, 1, 0, -1] - middle[:, 1, 0, 0])])
    areas = sides.prod(0) / (31 / 63) ** 2  # (n,)
    assert areas.aminmax().min > 0.3 - 1e-3
    assert areas.quantile(torch.tensor([0.25, 0.5, 0.75])) == pytest.approx([0.475, 0.65, 0.825], abs=0.03)
    for axis in (0, 1):
        low, high = views[:, axis].amin((1, 2)), 1 - views[:, axis].amax((1, 2))  # what is left out on both sides
        place = (low / (low + high))[areas < 0.9]
        assert place.quantile(torch.tensor([0.25, 0.5, 0.75])) == pytest.approx([0.25, 0.5, 0.75], abs=0.05)


def test_half_are_mirrored_and_angles_go_both_ways() -> None:
    draws = draw(0, 7, torch.arange(2000), 1)
    ramp = (torch.arange(8.0) / 7).expand(2000, 1, 1, 8, 8)
    mirrored = augment(ramp, draws, Augmentation(flip=True))[:, 0, 0, 0, 0] > 0.5
    assert mirrored.double().mean() == pytest.approx(0.5, abs=0.04)
    turned = augment(ramp, draws, Augmentation(rotation=10))[:, 0, 0]
    slope = turned[:, 6, 4] - turned[:, 1, 4]
    assert (slope > 0).double().mean() == pytest.approx(0.5, abs=0.04)
    assert slope.abs().max() == pytest.approx(5 / 7 * math.sin(math.radians(10)), rel=0.02)


def test_a_turned_window_sees_no_black_corners() -> None:
    draws = draw(0, 7, torch.arange(1), 50)
    turned = augment(torch.ones(1, 50, 1, 16, 16), draws, Augmentation(rotation=45))
    torch.testing.assert_close(turned, torch.ones_like(turned))


@pytest.mark.parametrize("per", ["image", "class", "task"])
def test_a_task_does_not_depend_on_the_others(per: Any) -> None:
    augmentation = Augmentation(0.4, True, 25, 0.6, per)
    together = augmented(make_episode(), 3, augmentation)
    for t in range(5):
        alone = augmented(make_episode().tasks(t, t + 1), 3, augmentation)
        assert torch.equal(alone.task.x[0], together.task.x[t])
        assert torch.equal(alone.query_x[0], together.query_x[t])


def test_changes_follow_the_seed_and_the_task_number_alone() -> None:
    episode = make_episode()
    torch.manual_seed(1)
    first = augmented(episode, 3, EVERYTHING)
    torch.manual_seed(2)
    assert torch.equal(first.task.x, augmented(episode, 3, EVERYTHING).task.x)
    assert not torch.equal(first.task.x, augmented(episode, 4, EVERYTHING).task.x)
    others = episode._replace(task_id=episode.task_id + 1)
    assert not torch.equal(first.task.x, augmented(others, 3, EVERYTHING).task.x)


@pytest.mark.parametrize("per", ["image", "class", "task"])
def test_per_says_what_is_changed_alike(per: Any) -> None:
    image = random_images(3, 8, 8, dtype=torch.float32)
    alike = make_episode(2).map_inputs(lambda x: image.expand(x.shape))
    episode = augmented(alike, 3, Augmentation(0.4, True, 25, 0.6, per))
    seen = torch.cat([episode.task.x, episode.query_x], dim=1).flatten(0, 1)  # (2 * 12, 3, 8, 8)
    labels = torch.cat([alike.task.y, alike.query_y], dim=1)  # (2, 12)
    tasks = torch.arange(2)[:, None].expand(2, 12)
    groups = {"image": torch.arange(24), "class": (tasks * 3 + labels).flatten(), "task": tasks.flatten()}[per]
    same = (seen[:, None] == seen[None]).flatten(2).all(2)  # (24, 24)
    assert torch.equal(same, groups[:, None] == groups[None])


@pytest.mark.parametrize("per", ["image", "class", "task"])
def test_an_image_is_changed_alike_however_many_follow(per: Any) -> None:
    augmentation = Augmentation(0.4, True, 25, 0.6, per)
    many = make_episode()  # 3 classes of 2 support and 2 query images
    first = torch.tensor([0, 2, 4])  # of each class
    fewer = many._replace(query_x=many.query_x[:, first], query_y=many.query_y[:, first])
    whole, part = augmented(many, 3, augmentation), augmented(fewer, 3, augmentation)
    assert torch.equal(part.task.x, whole.task.x)
    assert torch.equal(part.query_x, whole.query_x[:, first])
    one_shot = fewer._replace(task=many.task._replace(x=many.task.x[:, first], y=many.task.y[:, first]))
    assert torch.equal(augmented(one_shot, 3, augmentation).task.x, whole.task.x[:, first])


def test_unequal_classes_share_their_draws() -> None:
    draws = draw(0, 7, torch.arange(2), 5)
    labels = torch.tensor([[2, 0, 2, 1, 0], [1, 1, 1, 0, 1]])
    of_class = draws_of_images(draws, labels, Augmentation(flip=True, per="class"))
    for t in range(2):
        assert torch.equal(of_class[t], draws[t][labels[t]])


def test_nothing_to_change_costs_nothing() -> None:
    episode = make_episode()
    assert augmented(episode, 0, Augmentation(per="class")) is episode
    assert augment(episode.task.x, torch.empty(0), Augmentation()) is episode.task.x
    unmoved = augment(torch.zeros(1, 2, 3, 4, 4), draw(0, 7, torch.arange(1), 2), EVERYTHING)
    assert torch.equal(unmoved, torch.zeros(1, 2, 3, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_images_keep_type_and_range(dtype: torch.dtype) -> None:
    images = random_images(2, 8, 3, HEIGHT, WIDTH)
    draws = draw(0, 7, torch.arange(2), 8)
    seen = augment(images.to(dtype), draws, EVERYTHING)
    assert seen.dtype == dtype
    assert seen.min() >= 0
    assert seen.max() <= 1
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(images.to(dtype), draws, EVERYTHING), seen)
    exact = augment(images.to(dtype).double(), draws, EVERYTHING)
    assert (seen - exact).abs().max() < 4 * max(torch.finfo(dtype).eps, 1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 0.0}, r"augmentation.crop is a share of the area: it must be in \(0, 1\], got 0.0."),
        ({"crop": 1.1}, "augmentation.crop .* got 1.1."),
        ({"rotation": -1.0}, r"augmentation.rotation is an angle: it must be in \[0, 180\] degrees, got -1.0."),
        ({"jitter": -0.1}, r"augmentation.jitter must be 0 \(none\) or more, got -0.1."),
        ({"per": "batch"}, "augmentation.per must be one of image, class, task, got 'batch'."),
    ],
)
def test_what_makes_no_sense_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**settings)


def test_a_result_states_what_is_on() -> None:
    assert Augmentation(0.5, jitter=0.4).describe() == "crop 0.5, jitter 0.4, per image"
    assert Augmentation(flip=True, rotation=10, per="class").describe() == "flip, rotation 10, per class"

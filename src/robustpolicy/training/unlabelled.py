"""Images without labels, labelled by a teacher (RST, Carmon et al. 2019)."""

from __future__ import annotations

import torch

from robustpolicy.data import Joining, Split, load_unlabelled, to_float
from robustpolicy.errors import UserError
from robustpolicy.training.recipe import Recipe
from robustpolicy.training.run import Run


def with_unlabelled(
    split: Split, recipe: Recipe, device: torch.device
) -> tuple[Split, Joining | None]:
    """The training split, the recipe's unlabelled images behind it with their teacher's labels.

    Args:
        split: labelled samples.
        recipe: names the images and the teacher.
        device: where the teacher labels them.

    Raises:
        UserError: no teacher, or images or a teacher that do not fit.
    """
    if not recipe.unlabelled:
        return split, None
    settings = recipe.unlabelled
    channels, height, width = split.images.shape[1:]
    images = load_unlabelled(
        settings.unlabelled_images, (channels, height, width), recipe.image_size
    )
    labels = pseudo_labels(Run.open(settings.teacher), images, device)
    whole = Split(torch.cat([split.images, images]), torch.cat([split.labels, labels]))
    return whole, Joining(len(images), settings.unlabelled_share)


def pseudo_labels(
    teacher: Run, images: torch.Tensor, device: torch.device, batch_size: int = 1000
) -> torch.Tensor:
    """The classes that a trained run gives to images, int64, shape (N,), on the CPU."""
    model = teacher.load_model().to(device)
    found = []
    with torch.inference_mode():
        for part in torch.split(images, batch_size):
            try:
                found.append(model(to_float(part.to(device))).argmax(1).cpu())
            except RuntimeError as error:
                raise UserError(
                    f"the teacher {teacher.path} cannot take images of shape "
                    f"{tuple(part.shape[1:])}: {str(error).splitlines()[0]}"
                ) from None
    return torch.cat(found)

"""Images without labels that join the training, labelled by a teacher."""

from __future__ import annotations

from dataclasses import dataclass

from robustpolicy.errors import UserError
from robustpolicy.training.recipe.fields import check, check_types


@dataclass(frozen=True)
class Unlabelled:
    """A share of each batch drawn from images without labels (RST, Carmon et al. 2019)."""

    unlabelled_images: str = ""
    """Images without labels: a folder, or an .npy or .npz file; none if not given."""
    teacher: str = ""
    """Run folder of the model that labels them: its prediction is the label."""
    unlabelled_share: float = 0.5
    """Share of each batch that comes from them."""

    def __post_init__(self) -> None:
        check_types(self)
        fine = 0 < self.unlabelled_share < 1
        check(self, "unlabelled_share", fine, "a share in (0, 1), such as 0.5")
        if self.teacher and not self.unlabelled_images:
            raise UserError("a teacher has nothing to label; give --unlabelled-images too")
        if self.unlabelled_images and not self.teacher:
            raise UserError(
                "images without labels need a teacher; give --teacher and a finished run folder"
            )

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.unlabelled_images)

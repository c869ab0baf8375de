"""What an evaluation has found so far, on disk: one file a batch of an attack, each atomic."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from robustpolicy.errors import UserError
from robustpolicy.training.files import make_folder, write_atomically, write_json


@dataclass(frozen=True)
class Batch:
    """One batch of one attack.

    Attributes:
        places: positions of its samples in the evaluation, int64, shape (B,).
        robust: bool, shape (B,).
        x_adv: adversarial examples of those that are not, in their order.
        counts: forward evaluations, gradient evaluations, zero gradients; int64, shape (3,).
        seconds: float64, shape ().
    """

    places: Tensor
    robust: Tensor
    x_adv: Tensor
    counts: Tensor
    seconds: Tensor


class Store:
    """A folder of batches that belongs to one model, data, threat and configuration.

    Args:
        folder: made if need be.
        identity: everything that decides the results, as plain data; what is stored under
            another identity is refused.

    Raises:
        UserError: the folder holds another evaluation, and in which point it differs.
    """

    def __init__(self, folder: str | Path, identity: dict[str, Any]) -> None:
        self.folder = Path(folder)
        identity = json.loads(json.dumps(identity))
        file = self.folder / "state.json"
        if file.exists():
            try:
                kept = json.loads(file.read_text())
            except (OSError, ValueError) as error:
                raise UserError(f"{file} is damaged ({error}); choose another --state") from None
            differing = [key for key in identity if kept.get(key) != identity[key]]
            if differing:
                key = differing[0]
                raise UserError(
                    f"{self.folder} holds another evaluation: {key} was {_short(kept.get(key))}, "
                    f"now it is {_short(identity[key])}; choose another --state, or delete it"
                )
            return
        make_folder(self.folder)
        if any(self.folder.iterdir()):
            raise UserError(f"{self.folder} is not empty and holds no evaluation; choose another")
        write_json(file, identity)

    def load(self, attack: str, number: int) -> Batch | None:
        """A batch that is there already, or None."""
        try:
            return Batch(**load_file(self._path(attack, number)))
        except (OSError, SafetensorError, TypeError):
            return None

    def save(self, attack: str, number: int, batch: Batch) -> None:
        """Keep a batch.

        Raises:
            UserError: no space.
        """
        data = save({name: value.contiguous().cpu() for name, value in vars(batch).items()})
        write_atomically(self._path(attack, number), lambda to: to.write_bytes(data))  # type: ignore[arg-type]

    def _path(self, attack: str, number: int) -> Path:
        return self.folder / f"{attack}-{number:05d}.safetensors"


def stored_batches(folder: Path) -> list[tuple[str, Batch]]:
    """Every batch of a folder with its attack's name, in order of the file names."""
    files = sorted(folder.glob("**/*-[0-9]*.safetensors"))
    return [(path.stem.rpartition("-")[0], Batch(**load_file(path))) for path in files]


def digest(*tensors: Tensor) -> str:
    """SHA-256 of tensors: their values, shapes and dtypes; sixteen hexadecimal digits."""
    sha256 = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        sha256.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
        sha256.update(plain.view(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
    return sha256.hexdigest()[:16]


def model_digest(model: nn.Module) -> str:
    """Digest of a model's class and all its weights and buffers."""
    return f"{type(model).__name__}-{digest(*model.state_dict().values())}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."

"""What an extractor is: a network, the way in which images are resized for it, and the hash that records state."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor, nn

from metrics.extractors.resize import Resize


@dataclass(frozen=True, eq=False)
class Extractor:
    """A feature extractor: uint8 images in, one row of features per image out, with a resize mode of its own.

    Both sides of a distance need the same label and resize mode. ``network`` maps float32 (n, c, s, s) in [0, 1] to (n,
    d) and does its own normalisation; ``head``, where there is one, maps features to the logits of classes.
    """

    base: str
    hash: str  # 16 hex digits, of the weights
    resize: str
    network: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor] | None = None
    device: str = "cpu"

    @property
    def name(self) -> str:
        """The extractor's name with its resize mode, since another mode gives other features."""
        return f"{self.base}@{self.resize}"

    @property
    def label(self) -> str:
        """Name and hash of the weights, ``base@hash``, by which records name the extractor."""
        return f"{self.base}@{self.hash}"

    def resized(self, mode: str) -> Extractor:
        """The same extractor with another resize mode; raises ValueError on a name that is none."""
        return replace(self, resize=str(Resize.parse(mode)))

    def __call__(
        self, images: UInt8[Tensor, "n c h w"] | list[UInt8[Tensor, "_c _h _w"]], batch: int = 256
    ) -> Float64[Tensor, "n d"]:
        """The features of images, as ``features`` gives them."""
        return self.features(images, batch)

    @torch.no_grad()
    def features(
        self, images: UInt8[Tensor, "n c h w"] | list[UInt8[Tensor, "_c _h _w"]], batch: int = 256
    ) -> Float64[Tensor, "n d"]:
        """Features (n, d) of uint8 images (n, c, h, w) or of a list of images, in float64 on the CPU.

        The batch size changes them by the rounding of float32 alone. A list may mix sizes, and grey with colour images.
        Raises ValueError on images that are not uint8, on mixed sizes in the mode ``none``, and on a network that does
        not give one row of finite numbers per image.
        """
        if batch < 1:
            raise ValueError(f"batch is {batch}; at least 1 is accepted")
        if not len(images):
            raise ValueError("there are no images; at least 1 is accepted")
        rows = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            found = self.network(self._prepare(part))
            if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(part):
                shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise ValueError(f"{self.name} gives {shape} for {len(part)} images; one row per image is accepted")
            rows.append(found.double().cpu())
        features = torch.cat(rows)
        if wrong := int((~torch.isfinite(features).all(1)).sum()):
            raise ValueError(f"{self.name} gives features that are not finite for {wrong} of {len(features)} images")
        return features

    def _prepare(self, images: Tensor | list[Tensor]) -> Float32[Tensor, "n k s t"]:
        resize = Resize.parse(self.resize)
        if not isinstance(images, Tensor) and len({image.shape for image in images}) == 1:
            images = torch.stack(images)
        if isinstance(images, Tensor):
            return resize(images.to(self.device))
        resized = [resize(image[None].to(self.device)) for image in images]
        if len(sizes := {(x.shape[3], x.shape[2]) for x in resized}) > 1:
            found = ", ".join(f"{w}x{h}" for w, h in sorted(sizes))
            raise ValueError(f"{self.name}: images are of the sizes {found}; a mode that resizes takes more than one")
        return torch.cat(resized)

    @torch.no_grad()
    def logits(self, features: Float[Tensor, "n d"]) -> Float64[Tensor, "n k"]:
        """Class logits (n, k) by the extractor's own classifier, from its features.

        Raises ValueError where there is none.
        """
        if self.head is None:
            raise ValueError(f"{self.name} is no classifier")
        return self.head(features.float().to(self.device)).double().cpu()


def from_module(module: nn.Module, name: str, resize: str = "none", *, device: str = "cpu") -> Extractor:
    """Make a feature extractor of a network of one's own, which gets float32 (n, c, s, s) in [0, 1].

    It is put in evaluation mode. The hash covers its parameters, its buffers and its printed form, but not its code.
    """
    module = module.to(device).eval().requires_grad_(False)
    printed = torch.frombuffer(bytearray(repr(module).encode()), dtype=torch.uint8)
    weights = {key: value for key, value in module.state_dict().items() if isinstance(value, Tensor)}
    return Extractor(name, weights_hash({**weights, " repr": printed}), str(Resize.parse(resize)), module, None, device)


def from_torchscript(file: str | Path, resize: str = "none", *, device: str = "cpu") -> Extractor:
    """Make a feature extractor of a TorchScript file, as ``torch.jit.save`` writes it; the hash is that of the file.

    Unlike a pickle, loading it runs TorchScript alone and no Python; still, load only files that you trust, since one
    may use all memory. Raises ValueError where the file is no TorchScript.
    """
    file = Path(file)
    content = file.read_bytes()  # an OSError of Python's names the file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch has deprecated the format without a replacement
            module = torch.jit.load(str(file), map_location=device).eval()
    except RuntimeError as error:
        raise ValueError(f"{file} is no TorchScript file ({str(error).strip().splitlines()[0]})") from None

    def network(x: Tensor) -> Tensor:
        try:
            return module(x)
        except RuntimeError as error:  # for example of shapes; the reason is the last line of TorchScript's report
            shape, reason = tuple(x.shape), str(error).strip().splitlines()[-1]
            raise ValueError(f"{file.name} fails on images of shape {shape}: {reason}") from None

    digest = hashlib.sha256(content).hexdigest()[:16]
    return Extractor(file.name, digest, str(Resize.parse(resize)), network, None, device)


def weights_hash(weights: dict[str, Tensor]) -> str:
    """The first 16 hex digits of the sha256 of the names, types, shapes and bytes of tensors, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]

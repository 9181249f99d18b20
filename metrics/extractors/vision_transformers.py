"""DINOv2 (2304.07193) and CLIP (2103.00020) by the library transformers, from files on this machine alone.

``fd_dinov2`` is that of 2306.04675: ViT-L/14, the class token after the last norm, at 224 pixels. CLIP is that of CMMD
(2401.09603): ViT-L/14 at 336 pixels, its projected features scaled to length 1.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from metrics.extractors.extractor import Extractor, weights_hash
from metrics.extractors.weights import require

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation per channel
CLIP_DATA = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def load_dinov2(weights: str | Path | None = None, device: str = "cpu") -> Extractor:
    """Load the extractor DINOv2 ViT-L/14 (the class token, at 224 pixels), by which ``fd_dinov2`` is computed.

    Weights are a folder as ``save_pretrained`` writes it, or the hub's cache. Raises FileNotFoundError, with the
    command that gets the files, where they are in neither.
    """
    repository, file = "facebook/dinov2-large", "model.safetensors"
    model = _load("dinov2", "Dinov2Model", repository, file, weights).to(device)
    scale = _Scale(*IMAGENET).to(device)

    def network(images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n d"]:
        return model(pixel_values=scale(images)).pooler_output

    return Extractor("dinov2", weights_hash(model.state_dict()), "bicubic-antialias-224", network, None, device)


def load_clip(weights: str | Path | None = None, device: str = "cpu") -> Extractor:
    """Load the extractor CLIP (the image side, projected features of length 1), by which CMMD is computed.

    It resizes to the configured size. Weights are a folder as ``save_pretrained`` writes it, or the hub's cache. Raises
    FileNotFoundError, with the command that gets the files, where they are in neither.
    """
    repository, file = "openai/clip-vit-large-patch14-336", "pytorch_model.bin"  # it has no safetensors
    model = _load("clip", "CLIPVisionModelWithProjection", repository, file, weights).to(device)
    scale = _Scale(*CLIP_DATA).to(device)

    def network(images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n d"]:
        return nn.functional.normalize(model(pixel_values=scale(images)).image_embeds, dim=1)

    mode = f"bicubic-antialias-{model.config.image_size}"
    return Extractor("clip", weights_hash(model.state_dict()), mode, network, None, device)


class _Scale(nn.Module):
    def __init__(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        super().__init__()
        self.mean, self.deviation = (nn.Buffer(torch.tensor(x)[:, None, None]) for x in (mean, deviation))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.deviation


def _load(extractor: str, kind: str, repository: str, file: str, weights: str | Path | None) -> nn.Module:
    """The model in float32; every parameter comes from the files, or ValueError is raised."""
    transformers = require("transformers", extractor, "pip install 'fidmap[vit]'")
    if weights is None:
        from huggingface_hub import try_to_load_from_cache

        found = [try_to_load_from_cache(repository, name) for name in ("config.json", file)]
        if not all(isinstance(path, str) for path in found):
            raise FileNotFoundError(
                f"extractor {extractor} needs config.json and {file} of {repository}, which are not in Hugging "
                f"Face's cache: hf download {repository} config.json {file}"
            )
        weights = Path(str(found[0])).parent
    elif not (Path(weights) / "config.json").is_file():
        raise FileNotFoundError(f"weights {weights}: no folder with a config.json, as save_pretrained writes it")
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)  # what it would warn of is raised below
    transformers.logging.disable_progress_bar()
    try:
        model, report = getattr(transformers, kind).from_pretrained(
            str(weights), local_files_only=True, weights_only=True, dtype=torch.float32, output_loading_info=True
        )
    except OSError as error:
        raise FileNotFoundError(f"weights {weights}: {str(error).strip().splitlines()[0]}") from None
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(f"weights {weights}: of another network ({str(error).strip().splitlines()[0]})") from None
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
    if absent := sorted(map(str, report["missing_keys"])):
        raise ValueError(f"weights {weights}: of another network; it lacks {absent[0]} and {len(absent) - 1} more")
    return model.eval().requires_grad_(False)

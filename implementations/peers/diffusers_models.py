"""Models that diffusers saved, UNet2DModel and DiT, as denoisers: the scheduler's file says path and head.

The network is fidmap's own where the key map covers it (``implementations.weights.published``), else diffusers'.

A folder holds ``unet`` or ``transformer``, ``scheduler`` and, for latent models, ``vae``, as a pipeline saves them; or
the files of network and scheduler themselves. Numbers come from safetensors or by ``torch.load(weights_only=True)``,
and nothing in a folder is executed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
from jaxtyping import Float
from torch import Tensor

from implementations.diffusion.denoiser import Denoiser, Head, Network, Prediction
from implementations.diffusion.discrete import DiscreteVP
from implementations.diffusion.path import EDM, VE, Images, RectifiedFlow, Time, Values, as_float64
from implementations.diffusion.path import Path as Process
from implementations.weights.keys import NotCovered
from implementations.weights.published import load_published

MODELS = {  # name in config.json -> the class that diffusers has for it now
    "UNet2DModel": "UNet2DModel",
    "DiTTransformer2DModel": "DiTTransformer2DModel",
    "Transformer2DModel": "DiTTransformer2DModel",
}
PREDICTIONS: dict[str, Head] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
PRECONDITIONED = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")


class Loaded(NamedTuple):
    """A model from a folder: its denoiser, the shape (c, h, w) of a sample, and what makes images of its latents."""

    denoiser: Denoiser
    shape: tuple[int, ...]
    autoencoder: Autoencoder | None = None  # None where samples are images


class Autoencoder:
    """The autoencoder of a latent model: ``z = (mode(x) - shift) scaling`` and back, images in [-1, 1]."""

    def __init__(self, module: Any):
        self.module = module.eval().requires_grad_(False)
        self.scaling = float(module.config.scaling_factor)
        self.shift = float(module.config.get("shift_factor") or 0.0)

    def to(self, device: str) -> Autoencoder:
        """Move its weights to a device."""
        self.module.to(device)
        return self

    def encode(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Latents of images, the modes of their distributions."""
        return (self.module.encode(images).latent_dist.mode() - self.shift) * self.scaling  # type: ignore[no-any-return]

    def decode(self, latents: Float[Tensor, "n d i j"]) -> Float[Tensor, "n c h w"]:
        """Images of latents."""
        return self.module.decode(latents / self.scaling + self.shift).sample  # type: ignore[no-any-return]


def load(folder: Path) -> Loaded:
    """Load a model of diffusers as a denoiser, and its autoencoder ``vae`` where there is one.

    Raises ValueError on a model or a scheduler of another kind, and on weights that are not all the model's own.
    """
    place = next((folder / part for part in ("unet", "transformer") if (folder / part).is_dir()), folder)
    config, scheduler = _read(place / "config.json"), _read(_find_scheduler(folder, place))
    if (name := config.get("_class_name")) not in MODELS:
        raise ValueError(f"{place / 'config.json'}: the model is {name}; {', '.join(MODELS)} are accepted")
    module = _load_network(name, place)
    size = config.get("sample_size") or 32
    height, width = size if isinstance(size, list | tuple) else (size, size)
    own = getattr(module, "configuration", None)
    shape = (own["channels"] if own else module.config.in_channels, height, width)
    coder = Autoencoder(_load_module("AutoencoderKL", folder / "vae")) if (folder / "vae").is_dir() else None
    return Loaded(as_denoiser(module, scheduler), shape, coder)


def as_denoiser(module: Any, scheduler: dict[str, Any]) -> Denoiser:
    """A module that diffusers trained as a denoiser, by the content of its ``scheduler_config.json``.

    A scheduler with a table of betas gives ``DiscreteVP``, and ``prediction_type`` the head. Flow matching gives
    ``RectifiedFlow``, asked at ``num_train_timesteps`` t. EDM's gives its preconditioning (2206.00364, table 1).
    ScoreSdeVe's gives ``VE``, whose network is asked at sigma for the score. Raises ValueError on others.
    """
    kind = scheduler.get("_class_name", "")
    stated = scheduler.get("prediction_type", "epsilon")
    if kind in PRECONDITIONED:
        _require(stated, ("epsilon",), kind)
        data = float(scheduler.get("sigma_data", 0.5))
        return Preconditioned(EDM(float(scheduler.get("sigma_max", 80.0))), module, data)
    if kind in FLOWS or stated == "flow_prediction":
        return Scaled(RectifiedFlow(), module, "velocity", float(scheduler.get("num_train_timesteps", 1000)))
    if kind == "ScoreSdeVeScheduler":
        path = VE(float(scheduler.get("sigma_min", 0.01)), float(scheduler.get("sigma_max", 1348.0)))
        return Diffusers(path, module, "score", time=path.sigma)
    _require(stated, tuple(PREDICTIONS), kind)
    return Diffusers(DiscreteVP(_betas(kind, scheduler)), module, PREDICTIONS[stated])


class Diffusers(Network):
    """A module of diffusers as a denoiser; of an output with a learned variance, the second half is ``aux``."""

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        answer = self._ask(x, condition, t)
        aux = None
        if answer.shape[1] == 2 * x.shape[1]:  # variance_type learned or learned_range
            answer, aux = answer.chunk(2, dim=1)
        return Prediction(self.path, x, t, aux=aux, **{self.head: answer})


class Scaled(Diffusers):
    """A module of diffusers that is asked at ``steps`` t."""

    def __init__(self, path: Process, module: Any, head: Head, steps: float):
        super().__init__(path, module, head, time=lambda t: steps * as_float64(t))
        self.steps = steps  # the hash of a model covers attributes


class Preconditioned(Network):
    """A network F with EDM's preconditioning: ``x0 = c_skip x + c_out F(c_in x, c_noise)`` (2206.00364, eq. 7).

    With s the deviation of the data: ``c_skip = s^2 / (sigma^2 + s^2)``, ``c_out = sigma s / sqrt(sigma^2 + s^2)``,
    ``c_in = 1 / sqrt(sigma^2 + s^2)``, ``c_noise = log(sigma) / 4``.
    """

    def __init__(self, path: EDM, module: Any, deviation: float = 0.5):
        super().__init__(path, module, "x0", time=lambda t: as_float64(t).clamp(min=1e-8).log() / 4)
        self.deviation = deviation

    def __call__(self, x: Images, t: Time, condition: Any = None) -> Prediction:
        sigma = self._shape(self.path.sigma(t), x)
        total = sigma**2 + self.deviation**2
        answer = self._ask(x / total.sqrt(), condition, t)
        x0 = self.deviation**2 / total * x + sigma * self.deviation / total.sqrt() * answer
        return Prediction(self.path, x, t, x0=x0)

    def _shape(self, sigma: Values, x: Images) -> Tensor:
        return sigma.to(x).expand(len(x)).reshape(-1, *[1] * (x.ndim - 1))


def _betas(kind: str, scheduler: dict[str, Any]) -> Tensor:
    made = getattr(diffusers, kind, None) if kind.endswith("Scheduler") else None
    table = getattr(made.from_config(scheduler), "betas", None) if made is not None else None
    if not isinstance(table, Tensor):
        known = ", ".join([*FLOWS, *PRECONDITIONED, "ScoreSdeVeScheduler"])
        raise ValueError(f"the scheduler is {kind or 'not named'}; one with a table of betas, or {known} is accepted")
    return table.double()


def _load_network(name: str, place: Path) -> Any:
    """The network of a folder: fidmap's, with the weights through the key map, or diffusers' where it has none."""
    try:
        return load_published(place)
    except NotCovered:
        return _load_module(MODELS[name], place)


def _load_module(name: str, place: Path) -> Any:
    kind: Any = getattr(diffusers, name)
    safe = any(place.glob("*.safetensors"))
    if not safe and not any(place.glob("*.bin")):
        raise ValueError(f"{place}: has no weights; .safetensors or .bin is accepted")
    try:
        module, about = kind.from_pretrained(
            place, use_safetensors=safe, local_files_only=True, low_cpu_mem_usage=False, output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # diffusers wraps what safetensors and torch raise, each release otherwise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{place}: the weights cannot be read: {lines[0]}") from None
    for what, keys in (("lacks", about["missing_keys"]), ("has an unknown", about["unexpected_keys"])):
        if keys:
            raise ValueError(f"{place}: weights of another network: it {what} {min(keys)}")
    return module


def _find_scheduler(folder: Path, place: Path) -> Path:
    tried = [folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json",
             place / "scheduler_config.json"]  # fmt: skip
    found = next((file for file in tried if file.is_file()), None)
    if found is None:
        raise ValueError(f"{folder}: has no scheduler_config.json, which says path and head")
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{file}: no such file; a folder that diffusers saved is accepted") from None
    except ValueError as error:
        raise ValueError(f"{file}: no JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: holds no object")
    return content


def _require(stated: str, accepted: tuple[str, ...], kind: str) -> None:
    if stated not in accepted:
        raise ValueError(f"prediction_type of {kind} is {stated!r}; {', '.join(accepted)} is accepted")

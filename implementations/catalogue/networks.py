"""Networks by name: the architectures, and configurations of them that have a name."""

from __future__ import annotations

from implementations.catalogue.entry import Catalogue, NetworkEntry

_UNET, _DIT = "implementations.networks.unet:UNet", "implementations.networks.dit:DiT"
NETWORKS = Catalogue("networks", NetworkEntry, [
    NetworkEntry("unet", _UNET, "residual blocks and attention on levels of halved size", "2006.11239", family="unet"),
    NetworkEntry("unet_fmnist", _UNET, "28x28 grey images in 10 classes, as 14x14x4; under 1.0 M parameters", "2006.11239", family="unet",
                 preset={"channels": 1, "unshuffle": 2, "widths": [48, 72], "depth": 1, "attention": [False, True], "groups": 8,
                         "time_width": 96, "time_scale": 8.0, "classes": 10}),
    NetworkEntry("unet_small", _UNET, "32x32 colour images; 5 M parameters", "2006.11239", family="unet",
                 preset={"channels": 3, "widths": [64, 128, 128], "depth": 1, "attention": [False, True, True], "heads": 4}),
    NetworkEntry("unet_large", _UNET, "32x32 colour images, DDPM's for CIFAR-10; 36 M parameters", "2006.11239 (app. B)", family="unet",
                 preset={"channels": 3, "widths": [128, 256, 256, 256], "depth": 2, "attention": [False, True, False, False]}),
    NetworkEntry("dit", _DIT, "a transformer on patches, modulated by time and class", "2212.09748", family="dit"),
    NetworkEntry("dit_small", _DIT, "DiT-S/2, 32x32 latents; 33 M parameters", "2212.09748 (table 1)", family="dit",
                 preset={"size": 32, "patch": 2, "width": 384, "depth": 12, "heads": 6}),
    NetworkEntry("dit_large", _DIT, "DiT-XL/2, 32x32 latents; 675 M parameters", "2212.09748 (table 1)", family="dit",
                 preset={"size": 32, "patch": 2, "width": 1152, "depth": 28, "heads": 16}),
    # other libraries', whose options are their own
    NetworkEntry("diffusers_unet", "implementations.peers.diffusers_networks:unet", "UNet2DModel", family="peer", package="diffusers"),
    NetworkEntry("diffusers_dit", "implementations.peers.diffusers_networks:dit", "DiTTransformer2DModel", family="peer", package="diffusers"),
])  # fmt: skip

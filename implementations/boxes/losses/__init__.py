"""Box losses, one file per family: each loss is a few lines over the geometry of a pair of boxes."""

import lazy_loader

_EXPORTS = {
    "contract": ["pairwise"],
    "focusing": ["RunningMean"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_EXPORTS)

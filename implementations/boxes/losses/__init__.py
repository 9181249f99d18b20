"""Box losses, one file a family: a few lines each over the geometry of a pair."""

import lazy_loader

_EXPORTS = {
    "contract": ["pairwise"],
    "focusing": ["RunningMean"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_EXPORTS)

"""``fidmap evaluate``: images, detections and models of one's own, judged at once."""

import lazy_loader

_EXPORTS = {"models.run": ["evaluate_model"]}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_EXPORTS)

"""The former place of pytest's plugin, which environments made before it moved still name: see ``fidmap_pytest``."""

from fidmap_pytest import *  # noqa: F403

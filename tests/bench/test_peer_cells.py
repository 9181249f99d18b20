"""Cells of peers: their version belongs to the hash, and where one is not installed they are skipped and say so."""

import pytest

from bench import environment
from bench.plan import cells
from bench.plan.suite import Suite

SUITE = {
    "name": "s",
    "block": [{"task": "sampler_overhead", "settings": {"samplers": ["euler", "k_diffusion_euler"]}}],
}  # fmt: skip


@pytest.mark.parametrize("found", [{}, {"k-diffusion": "0.1.1"}, {"k-diffusion": "0.2"}], ids=str)
def test_versions_of_peers_and_their_absence(monkeypatch, found):
    monkeypatch.setattr(environment, "versions", lambda names=(): {k: v for k, v in found.items() if k in names})
    (cell,) = cells.expand(Suite.model_validate(SUITE))
    assert cell.skip == (None if found else "not installed: k-diffusion")
    monkeypatch.setattr(
        environment, "versions", lambda names=(): {"k-diffusion": "0.3"} if "k-diffusion" in names else {}
    )
    (other,) = cells.expand(Suite.model_validate(SUITE))
    assert cell.identity.key == other.identity.key
    assert cell.identity.hash != other.identity.hash


def test_cells_without_peers_know_nothing_of_them(monkeypatch):
    asked = []
    monkeypatch.setattr(environment, "versions", lambda names=(): asked.extend(names) or {})
    suite = {"name": "s", "block": [{"task": "sampler_overhead", "settings": {"samplers": ["euler", "heun"]}}]}
    (cell,) = cells.expand(Suite.model_validate(suite))
    assert cell.skip is None
    assert set(asked) == set(environment.BASE)

"""Guidance: neutral values bit for bit, the exact score on a mixture, each formula by its paper, every path and sampler."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from implementations.catalogue import GUIDANCE
from implementations.diffusion import EDM, SCHEDULES, VP, CountingDenoiser, MixtureOracle, Network, RectifiedFlow
from implementations.guidance import Guidance, blurring, inpainting, super_resolution
from implementations.samplers import SAMPLERS
from tests.exact import PATHS, draws, label, normal, start
from tests.given import Given, classes, tiny

IMAGES = (3, 1, 8, 8)
LABELS = torch.tensor([0, 2, 1])


def network(path=None, seed=0):
    return Network(path or VP(), tiny(seed), head="eps", dtype=torch.float64)


def quadratic(x0):
    return (x0 - 0.5).square().flatten(1).sum(1) / 2


def logits(x, t):
    """A classifier of three classes."""
    flat = x.flatten(1)
    return torch.stack([flat.sum(1), flat.square().sum(1), (flat[:, 0] * t).sin()], 1)


NEEDS = {  # what a scheme takes beside its scale
    "classifier": {"classifier": logits},
    "autoguidance": {"weak": network(seed=1)},
    "posterior": {"measurement": torch.zeros(IMAGES), "operator": blurring(1.0)},
    "universal": {"loss": quadratic},
}
NEUTRAL = {
    "classifier_free": {"scale": 1.0}, "classifier": {"scale": 1.0, "conditional": True}, "rescale": {"phi": 0.0},
    "dynamic_threshold": {"limit": math.inf}, "interval": {"low": 0.0, "high": math.inf}, "autoguidance": {"scale": 1.0},
    "apg": {"scale": 1.0}, "cfg_zero_star": {"scale": 1.0, "zero_above": math.inf}, "tangential": {"scale": 1.0},
    "frequency_decoupled": {"scale": (1.0, 1.0)}, "magnitude_aware": {"scale": 1.0}, "perturbed_attention": {"scale": 0.0},
    "self_attention": {"scale": 0.0}, "smoothed_energy": {"scale": 0.0}, "skip_layer": {"scale": 0.0},
    "posterior": {"scale": 0.0}, "universal": {"scale": 0.0},
}  # fmt: skip


def wrap(name, denoiser, **options):
    return GUIDANCE[name](denoiser, **{**NEEDS.get(name, {}), **options})


def bare(name, denoiser):
    """What a scheme wraps: the network, or for a correction a guided one."""
    return GUIDANCE["classifier_free"](denoiser, scale=3.0) if GUIDANCE[name].wraps == "guided" else denoiser


def same(left, right):
    return all(
        torch.equal(getattr(left, view), getattr(right, view)) for view in ("x0", "eps", "v", "velocity", "score")
    )


# neutral values


def test_every_entry_states_its_neutral_values_or_that_it_has_none():
    assert (
        {name for name, entry in GUIDANCE.items() if not entry.neutral}
        == {"cfg_plus_plus"}
        == set(GUIDANCE) - set(NEUTRAL)
    )


@pytest.mark.parametrize("name", NEUTRAL)
@pytest.mark.parametrize("t", [0.37, torch.tensor([0.1, 0.5, 0.9])], ids=["one time", "times"])
def test_a_neutral_value_gives_back_the_prediction_of_what_is_wrapped(name, t):
    denoiser = network()
    wrapped, x = bare(name, denoiser), normal(*IMAGES)
    counted = CountingDenoiser(denoiser)
    guided = wrap(name, bare(name, counted), **NEUTRAL[name])
    assert same(guided(x, t, LABELS), wrapped(x, t, LABELS))
    assert counted.rows == (2 if GUIDANCE[name].wraps == "guided" else 1) * len(x)  # nothing is evaluated in vain


@pytest.mark.parametrize("name", NEUTRAL)
def test_elsewhere_a_scheme_changes_the_prediction(name):
    x = normal(*IMAGES)
    options = {"phi": 0.7} if name == "rescale" else {"low": 1.0, "high": 1.1} if name == "interval" else {}
    wrapped = bare(name, network())
    assert (wrap(name, wrapped, **options)(x, 0.37, LABELS).eps - wrapped(x, 0.37, LABELS).eps).abs().max() > 1e-3


def test_scale_0_of_classifier_free_guidance_is_unconditional_and_costs_one_evaluation():
    x, denoiser = normal(*IMAGES), CountingDenoiser(network())
    assert same(wrap("classifier_free", denoiser, scale=0.0)(x, 0.4, LABELS), network()(x, 0.4, None))
    assert same(wrap("classifier", network(), scale=0.0)(x, 0.4, LABELS), network()(x, 0.4, None))
    assert denoiser.rows == len(x)


@pytest.mark.parametrize("name", ["classifier_free", "cfg_plus_plus", "apg", "tangential", "magnitude_aware"])
def test_without_a_condition_there_is_nothing_to_guide(name):
    x = normal(*IMAGES)
    assert same(wrap(name, network())(x, 0.4), network()(x, 0.4))


# the exact score


def log_densities(oracle, t, x):
    """log p_t(x) and log p_t(c | x) of every class, from the mixture's parameters alone."""
    alpha, sigma = float(oracle.path.alpha(t)), float(oracle.path.sigma(t))
    means = [[0.8, 0.0], [-0.6, 0.5], [0.0, -0.7], [0.3, 0.9]]
    weights, labels = [0.3, 0.3, 0.2, 0.2], [0, 1, 2, 2]
    c, s = math.cos(0.5), math.sin(0.5)
    cross = [[0.3 * c * c + 0.05 * s * s, 0.25 * c * s], [0.25 * c * s, 0.3 * s * s + 0.05 * c * c]]
    first = torch.tensor(cross, dtype=torch.float64)
    second = first.flip(0, 1).T
    covariances = [first, (second + second.T) / 2, 0.1 * torch.eye(2).double(), 0.1 * torch.eye(2).double()]
    joint = torch.stack([
        math.log(w) + MultivariateNormal(alpha * torch.tensor(m, dtype=torch.float64), alpha**2 * v + sigma**2 * torch.eye(2).double()).log_prob(x)
        for w, m, v in zip(weights, means, covariances, strict=True)
    ], 1)  # fmt: skip
    of_class = torch.stack(
        [joint[:, [k for k, own in enumerate(labels) if own == c]].logsumexp(1) for c in range(3)], 1
    )
    return joint.logsumexp(1), of_class.log_softmax(1)


def tilted_score(oracle, t, x, labels, w):
    x = x.clone().requires_grad_()
    density, posterior = log_densities(oracle, t, x)
    return torch.autograd.grad((density + w * posterior.gather(1, labels[:, None])[:, 0]).sum(), x)[0]


@pytest.mark.parametrize("path", PATHS, ids=label)
@pytest.mark.parametrize("w", [0.0, 0.4, 1.0, 3.0])
def test_classifier_free_and_classifier_guidance_are_the_score_of_the_tilted_density(path, w):
    oracle, labels = classes(path), torch.tensor([0, 1, 2, 0, 1])

    def exact_classifier(x, t):
        return log_densities(oracle, level, x)[1]

    for share in (0.1, 0.5, 0.9):
        level = path.t_min + share * (path.t_max - path.t_min)
        x = start(path, level, normal(5, 2))
        exact = tilted_score(oracle, level, x, labels, w)
        for guided in (
            wrap("classifier_free", oracle, scale=w),
            wrap("classifier_free", oracle, scale=w, batched=False),
            wrap("classifier", oracle, scale=w, classifier=exact_classifier),
            wrap("classifier", oracle, scale=w, classifier=exact_classifier, conditional=True),
        ):
            assert (guided(x, level, labels).score - exact).abs().max() <= 1e-10 * max(1.0, float(exact.abs().max()))


# formulas, per sample in NumPy, from the papers


def reference_classifier_free(c, u, w):
    return (1 + (w - 1)) * c - (w - 1) * u


def reference_apg(c, u, w, eta=0.0, r=1.5):
    d = c - u
    d = d * min(1.0, r / np.linalg.norm(d))
    unit = c / np.linalg.norm(c)
    parallel = np.dot(d, unit) * unit
    return c + (w - 1) * (d - parallel + eta * parallel)


def reference_zero_star(c, u, w):
    s = np.dot(c, u) / np.dot(u, u)
    return (1 - w) * s * u + w * c


def reference_tangential(c, u, w):
    _, _, rows = np.linalg.svd(np.stack([c, u]), full_matrices=False)
    along = np.dot(u, rows[0]) * rows[0]
    return along + w * (c - along)


def reference_magnitude(c, u, w, alpha=2.0):
    r = np.linalg.norm(c - u) / np.linalg.norm(u)
    return u + (1 + (w - 1) * math.exp(-alpha * r)) * (c - u)


def reference_frequency(c, u, w):
    high, low = (w, w / 2)
    c, u = (each.reshape(8, 8) for each in (c, u))
    smooth = [enlarge(shrink(each)) for each in (c, u)]
    bands = [(c - smooth[0], u - smooth[1], high), (smooth[0], smooth[1], low)]
    return sum(b + s * (a - b) for a, b, s in bands).ravel()


KERNEL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def blur(image):
    padded = np.pad(image, 2, mode="reflect")
    height, width = image.shape
    return sum(KERNEL[i, j] * padded[i : i + height, j : j + width] for i in range(5) for j in range(5))


def shrink(image):
    return blur(image).reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean((1, 3))


def enlarge(image):
    """Bilinear by 2, at the centres of pixels, then blurred."""
    for axis in (0, 1):
        image = np.moveaxis(image, axis, 0)
        before, after = np.concatenate([image[:1], image[:-1]]), np.concatenate([image[1:], image[-1:]])
        image = np.stack([0.75 * image + 0.25 * before, 0.75 * image + 0.25 * after], 1).reshape(-1, *image.shape[1:])
        image = np.moveaxis(image, 0, axis)
    return blur(image)


FORMULAS = {
    "classifier_free": (reference_classifier_free, {}, None),
    "apg": (reference_apg, {"threshold": 1.5, "momentum": 0.0}, "x0"),
    "cfg_zero_star": (reference_zero_star, {"zero_above": math.inf}, "velocity"),
    "tangential": (reference_tangential, {}, "eps"),
    "magnitude_aware": (reference_magnitude, {"alpha": 2.0}, "velocity"),
    "frequency_decoupled": (reference_frequency, {}, "x0"),
}


@pytest.mark.parametrize("space", ["x0", "eps", "v", "velocity", "own"])
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("t", [0.3, torch.tensor([0.1, 0.5, 0.8])], ids=["one time", "times"])
def test_a_formula_is_its_paper_s_in_its_space(name, space, t):
    """On the straight path velocity is eps - x0, and v is the one of the angle."""
    reference, options, own = FORMULAS[name]
    path, w, x = RectifiedFlow(), 2.5, normal(*IMAGES, seed=3)
    c, u = normal(*IMAGES, seed=1), normal(*IMAGES, seed=2)
    space = space if space != "own" else own or "eps"
    options = (
        options | ({"space": space} if own else {}) | {"scale": (w, w / 2) if name == "frequency_decoupled" else w}
    )
    alpha, sigma = (torch.as_tensor(f(t)).expand(3).reshape(3, 1, 1, 1) for f in (path.alpha, path.sigma))
    if space == "v":  # the network predicts the angle's v by way of its path's velocity
        radius = (alpha**2 + sigma**2).sqrt()
        v, s, k = torch.stack([c, u]), sigma / radius, alpha / radius
        x0, eps = k * x / radius - s * v, s * x / radius + k * v
        given = Given(path, *(eps - x0), head="velocity")
    else:
        given = Given(path, c, u, head=space)
    found = GUIDANCE[name](given, **options)(x, t, 0)
    found = (found.eps * alpha - found.x0 * sigma) / radius if space == "v" else getattr(found, space)
    for one, a, b in zip(found, c, u, strict=True):
        wanted = reference(a.numpy().ravel(), b.numpy().ravel(), w)
        assert np.abs(one.numpy().ravel() - wanted).max() < 1e-10


@pytest.mark.parametrize("space", ["x0", "eps", "velocity"])
def test_rescale_gives_back_the_share_of_the_conditional_deviation(space):
    c, u, x, w, phi = normal(*IMAGES, seed=1), normal(*IMAGES, seed=2), normal(*IMAGES, seed=3), 5.0, 0.7
    guided = GUIDANCE["classifier_free"](Given(RectifiedFlow(), c, u, head=space), scale=w)
    found = getattr(GUIDANCE["rescale"](guided, phi=phi, space=space)(x, 0.3, 0), space)
    for one, a, b in zip(found, c.numpy(), u.numpy(), strict=True):
        g = b + w * (a - b)
        assert np.abs(one.numpy() - (phi * g * a.std() / g.std() + (1 - phi) * g)).max() < 1e-12


def test_dynamic_thresholding_clips_to_a_quantile_and_divides():
    c, x = 3 * normal(*IMAGES, seed=1), normal(*IMAGES, seed=3)
    c[2] = 0.5 * c[2].clamp(-1, 1)  # within the limit: it stays
    found = GUIDANCE["dynamic_threshold"](Given(VP(), c, c, head="x0"), quantile=0.9)(x, 0.3, 0).x0
    for one, a in zip(found[:2], c.numpy(), strict=False):
        s = max(np.quantile(np.abs(a), 0.9), 1.0)
        assert s > 1
        assert np.abs(one.numpy() - np.clip(a, -s, s) / s).max() < 1e-12
    assert torch.equal(found[2], c[2])


def test_cfg_plus_plus_steps_to_guided_data_and_unconditional_noise():
    """2406.08070, algorithm 2, in numbers; a step of an exponential integrator starts from the moved state."""
    path, lam, x = VP(), 0.6, normal(4, 2)
    c, u = normal(4, 2, seed=1), normal(4, 2, seed=2)
    guided = GUIDANCE["cfg_plus_plus"](Given(path, c, u), scale=lam)
    times = torch.tensor([0.6, 0.4])
    (a, b), (s, r) = ([float(f(t)) for t in times] for f in (path.alpha, path.sigma))
    x0 = (x - s * (u + lam * (c - u))) / a
    for name in ("ddim", "dpmpp_2m", "euler"):
        found = SAMPLERS[name](guided, x, times, condition=0)
        assert (found - (b * x0 + r * u)).abs().max() < 1e-12, name


def test_a_still_start_leaves_the_state_on_the_straight_path():
    denoiser = CountingDenoiser(Given(RectifiedFlow(), normal(3, 2), normal(3, 2, seed=1), head="velocity"))
    guided, x = GUIDANCE["cfg_zero_star"](denoiser, zero_above=24.0), normal(3, 2, seed=2)
    found = SAMPLERS["euler"](guided, x, torch.tensor([1.0, 0.98, 0.97]), condition=0)
    assert (found - x).abs().max() < 1e-12
    assert denoiser.calls == 0
    mixed = guided(x, torch.tensor([0.98, 0.5, 0.2]), 0)
    assert mixed.velocity[0].abs().max() < 1e-12
    assert torch.allclose(mixed.velocity[1:], guided(x, 0.5, 0).velocity[1:])


def test_autoguidance_extrapolates_from_the_weaker_model():
    weak, denoiser, x = network(seed=1), network(), normal(*IMAGES)
    found = GUIDANCE["autoguidance"](denoiser, weak=weak, scale=2.0)(x, 0.4, LABELS).eps
    good, bad = denoiser(x, 0.4, LABELS).eps, weak(x, 0.4, LABELS).eps
    assert (found - (bad + 2 * (good - bad))).abs().max() < 1e-12


# intervals


@pytest.mark.parametrize("path", PATHS, ids=label)
def test_an_interval_is_one_of_noise_levels_on_every_path(path):
    oracle, x = classes(path), start(path, path.time(0.0), normal(3, 2))
    guided = GUIDANCE["classifier_free"](oracle, scale=3.0)
    within = GUIDANCE["interval"](guided, low=0.5, high=2.0)
    for level, inside in ((0.4, False), (0.51, True), (1.99, True), (2.01, False)):
        t = path.time(-math.log(level))
        assert same(within(x, t, 1), (guided if inside else oracle)(x, t, 1))
    times = torch.stack([path.time(-math.log(level)) for level in (0.4, 1.0, 2.1)])
    mixed = within(x, times, 1).eps
    assert torch.equal(mixed[1], guided(x, times, 1).eps[1])
    assert torch.equal(mixed[[0, 2]], oracle(x, times, 1).eps[[0, 2]])


def test_outside_its_interval_guidance_costs_nothing():
    counted = CountingDenoiser(classes(EDM()))
    within = GUIDANCE["interval"](GUIDANCE["classifier_free"](counted, scale=3.0), low=0.5, high=2.0)
    times = torch.tensor([8.0, 3.0, 1.5, 0.7, 0.3, 0.0])
    SAMPLERS["euler"](within, 8 * normal(4, 2), times, condition=0)
    assert (counted.calls, counted.rows) == (5, 4 * (5 + 2))


# evaluations


def test_all_evaluations_of_a_stack_are_one_call_and_every_one_counts():
    counted, x = CountingDenoiser(network()), normal(*IMAGES)
    stack = GUIDANCE["classifier_free"](counted, scale=3.0)
    for name in ("perturbed_attention", "smoothed_energy", "skip_layer", "rescale", "dynamic_threshold"):
        stack = GUIDANCE[name](stack)
    stack(x, 0.4, LABELS)
    assert (counted.calls, counted.rows) == (1, 5 * len(x))  # conditional, unconditional, and three perturbed ones


@pytest.mark.parametrize("name", [name for name in NEUTRAL if name != "interval"])
def test_one_call_or_several_give_the_same(name):
    x = normal(*IMAGES)

    def guided(batched):
        inner = bare(name, network())
        inner.batched = batched
        return wrap(name, inner, batched=batched)(x, 0.4, LABELS)

    assert (guided(True).eps - guided(False).eps).abs().max() < 1e-12


def test_what_a_module_without_a_label_for_none_is_asked():
    """Only None drops its condition, so that there are two calls; a tensor that stands for none makes one of them."""
    asked = []

    def module(x, t, condition=None):
        asked.append(None if condition is None else tuple(condition.shape))
        return x * (0.1 if condition is None else condition.mean())

    denoiser, x = Network(VP(), module), normal(3, 2)
    words = normal(3, 4, 5)
    GUIDANCE["classifier_free"](denoiser, scale=2.0)(x, 0.5, words)
    assert asked == [(3, 4, 5), None]
    asked.clear()
    GUIDANCE["classifier_free"](denoiser, scale=2.0, unconditional=torch.zeros(4, 5))(x, 0.5, words)
    assert asked == [(6, 4, 5)]


# composition and samplers


PLANE = {
    "classifier_free": {}, "cfg_plus_plus": {}, "apg": {}, "cfg_zero_star": {}, "tangential": {}, "magnitude_aware": {},
    "classifier": {"classifier": lambda x, t: x.new_zeros(len(x), 3) + x[:, :1] * torch.tensor([1.0, -1.0, 0.5])},
    "universal": {"loss": quadratic, "scale": 0.3, "backward_steps": 1},
    "posterior": {"measurement": torch.ones(1, 2), "operator": lambda x: x, "noise": 0.5, "spread": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("name", PLANE)
def test_the_same_levels_give_the_same_samples_on_every_path(name):
    """A scheme sees sigma/alpha, x0 and eps alone, so that it does the same on every path."""
    labels, found = torch.tensor([0, 1, 2, 0]), []
    for path in (VP(), EDM(), RectifiedFlow()):
        times = SCHEDULES["karras"](path, 6, sigma_min=0.05, sigma_max=30.0, clean=False)
        guided = GUIDANCE[name](classes(path), **PLANE[name])
        x = SAMPLERS["heun"](guided, start(path, times[0], normal(4, 2)), times, condition=labels).detach()
        found.append(x / float(torch.hypot(path.alpha(times[-1]), path.sigma(times[-1]))))
    # the classifier sees x itself, whose scale is the path's
    if name != "classifier":
        assert max(float((x - found[0]).abs().max()) for x in found[1:]) < 1e-9


@pytest.mark.parametrize(
    "sampler", ["ddim", "euler_ancestral", "dpmpp_2m_sde", "edm_heun", "dopri5", "unipc_bh2", "picard", "restart"]
)
@pytest.mark.parametrize("name", PLANE)
def test_a_second_call_equals_the_first(name, sampler):
    path = EDM()
    times, guided = SCHEDULES["karras"](path, 8), GUIDANCE[name](classes(path), **PLANE[name])
    x = 80 * normal(4, 2)
    options = {"rtol": 1e-2, "atol": 1e-2} if sampler == "dopri5" else {}
    first, second = (SAMPLERS[sampler](guided, x, times, condition=1, noise=draws, **options) for _ in range(2))
    assert first.isfinite().all()
    assert torch.equal(first, second)


@pytest.mark.parametrize("outer", NEUTRAL)
@pytest.mark.parametrize(
    "inner", ["classifier_free", "cfg_plus_plus", "apg", "posterior", "self_attention", "interval"]
)
def test_schemes_compose(inner, outer):
    x = normal(*IMAGES)
    stack = wrap(inner, bare(inner, network()))
    options = {"conditional": True} if outer == "classifier" else {}
    guided = wrap(outer, stack, **options)
    with torch.no_grad():
        assert guided(x, 0.4, LABELS).eps.isfinite().all()
        neutral = wrap(outer, stack, **NEUTRAL[outer])(x, 0.4, LABELS)
    assert torch.allclose(neutral.eps, stack(x, 0.4, LABELS).eps, rtol=0, atol=1e-12)


def test_what_adds_commutes():
    x, denoiser = normal(*IMAGES), network()
    orders = (
        ("classifier_free", "perturbed_attention", "autoguidance"),
        ("autoguidance", "perturbed_attention", "classifier_free"),
    )
    first, second = (guide_by(denoiser, order)(x, 0.4, LABELS).eps for order in orders)
    assert (first - second).abs().max() < 1e-12


def guide_by(denoiser, names):
    for name in names:
        denoiser = wrap(name, denoiser)
    return denoiser


class Conditioned(Guidance):
    """A denoiser with its condition fixed, as the reference flow asks without one."""

    def __init__(self, denoiser, condition):
        self.denoiser, self.path, self.condition = denoiser, denoiser.path, condition

    def own_evaluations(self, level):
        return ()

    def act(self, total, at):
        return total

    def __call__(self, x, t, condition=None):
        return self.denoiser(x, t, self.condition)


def mild(path):
    """Two classes, mild enough that no path changes basin."""
    means = torch.tensor([[0.6, -0.3], [-0.6, 0.3]], dtype=torch.float64)
    covariances = torch.tensor([[[0.5, 0.3], [0.3, 0.4]], [[0.3, -0.15], [-0.15, 0.6]]], dtype=torch.float64)
    return MixtureOracle(path, means, covariances, [0.4, 0.6], labels=torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("sampler", "order"), [("ddim", 1), ("heun", 2), ("dpmpp_2m", 2), ("rk4", 4), ("dpmpp_3m", 3), ("unipc_bh2", 3)]
)
@pytest.mark.unchecked  # thousands of calls of one kind
def test_the_order_of_a_sampler_stays_when_it_is_guided(sampler, order):
    from bench.tasks.samplers.problems import integrated_flow
    from implementations.schedules.spacing import grade
    from metrics import fit_order

    path = VP()
    guided = Conditioned(GUIDANCE["classifier_free"](mild(path), scale=2.5), 0)
    steps = [40, 80, 160]

    def grid(n):
        return grade(SCHEDULES["karras"](path, n, sigma_min=0.05, sigma_max=20.0, clean=False))

    x = normal(4, 2) * float(path.sigma(grid(1)[0]))
    exact = integrated_flow(guided, x, grid(1)[0], grid(1)[-1])
    errors = [float((SAMPLERS[sampler](guided, x, grid(n)) - exact).square().mean().sqrt()) for n in steps]
    assert fit_order(steps, errors, floor=1e-11).slope > order - 0.2


@pytest.mark.parametrize("name", ["k_diffusion_heun", "k_diffusion_dpmpp_2m", "diffusers_ddim", "diffusers_dpmpp_2m"])
def test_parity_of_samplers_stays_when_they_are_guided(name):
    """A peer that runs on a guided denoiser gives what ours does."""
    ours = {"diffusers_ddim": "ddim", "diffusers_dpmpp_2m": "dpmpp_2m"}.get(name, name.removeprefix("k_diffusion_"))
    path = EDM() if name.startswith("k_") else VP()
    times = SCHEDULES["karras"](path, 20)
    guided = GUIDANCE["classifier_free"](classes(path), scale=3.0)
    x = normal(4, 2) * float(path.sigma(times[0]))
    labels = torch.tensor([0, 1, 2, 0])
    found, wanted = (SAMPLERS[one](guided, x, times, condition=labels) for one in (name, ours))
    assert (found - wanted).abs().max() < 1e-4 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("text", ["euler_cfg_pp", "euler_ancestral_cfg_pp", "dpmpp_2s_ancestral_cfg_pp", "DDIM CFG++"])
def test_names_with_cfg_plus_plus_run_the_sampler_with_its_guidance(text):
    path, labels = EDM(), torch.tensor([0, 1, 2, 0])
    times, x = SCHEDULES["karras"](path, 8), 80 * normal(4, 2)
    entry, plain = SAMPLERS[text], text.removesuffix("_cfg_pp") if "_" in text else "ddim"
    found = entry(classes(path), x, times, condition=labels, noise=draws, scale=0.8)
    guided = GUIDANCE["cfg_plus_plus"](classes(path), scale=0.8)
    assert torch.equal(found, SAMPLERS[plain](guided, x, times, condition=labels, noise=draws))
    assert entry.evaluations(times) == SAMPLERS[plain].evaluations(times)


# posterior and universal


def test_the_posterior_s_score_is_exact_where_the_data_are_gaussian():
    """Isotropic data and a mask: with their own spread the likelihood at x0 is that of x itself (Bayes, closed form)."""
    path, v, noise, x = VP(), 0.7, 0.2, normal(3, 1, 4, 4)
    mask = (normal(1, 1, 4, 4, seed=5) > 0).double()
    y = mask * normal(3, 1, 4, 4, seed=6)
    from implementations.diffusion import GaussianOracle

    prior = GaussianOracle(path, torch.zeros(1, 4, 4).double(), torch.full((1, 4, 4), v**2, dtype=torch.float64))
    guided = GUIDANCE["posterior"](prior, measurement=y, operator=inpainting(mask), noise=noise, spread=v)
    for t in (0.1, 0.5, 0.9):
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
        seen_variance = v**2 * noise**2 / (v**2 + noise**2)  # of the data given y, where they are measured
        mean = mask * y * v**2 / (v**2 + noise**2)
        variance = torch.where(mask > 0, torch.tensor(seen_variance, dtype=torch.float64), v**2)
        exact = -(x - alpha * mean) / (alpha**2 * variance + sigma**2)
        assert (guided(x, t).score - exact).abs().max() < 1e-10


@pytest.mark.parametrize(
    "operator", [inpainting(torch.eye(8)), blurring(1.2), super_resolution(2)], ids=["inpainting", "blur", "super"]
)
@pytest.mark.parametrize("noise", [0.3, None])
def test_posterior_guidance_is_the_gradient_of_the_likelihood_at_the_predicted_data(operator, noise):
    """2209.14687, theorem 1 and algorithm 1, by finite differences of the predicted data."""
    denoiser, x, t, scale = network(), normal(*IMAGES), 0.4, 0.8
    y = operator(normal(*IMAGES, seed=4))
    guided = GUIDANCE["posterior"](denoiser, measurement=y, operator=operator, noise=noise, scale=scale)
    found = guided(x, t, LABELS).score - denoiser(x, t, LABELS).score
    way, h = normal(*IMAGES, seed=7), 1e-5
    with torch.no_grad():
        ahead, behind = (
            (y - operator(denoiser(x + s * h * way, t, LABELS).x0)).square().flatten(1).sum(1) for s in (1, -1)
        )
        size = (y - operator(denoiser(x, t, LABELS).x0)).flatten(1).norm(dim=1)
    weight = 1 / (2 * noise**2) if noise else 1 / size
    slope = -scale * weight * (ahead - behind) / (2 * h)
    assert torch.allclose((found * way).flatten(1).sum(1), slope, rtol=1e-5)


def test_universal_guidance_forward_and_backward():
    """2302.07121, sec. 3.1 and 3.2: a gradient through the denoiser, and steps of descent on the predicted data."""
    denoiser, x, t = network(), normal(*IMAGES), 0.4
    alpha, sigma = float(VP().alpha(t)), float(VP().sigma(t))
    tracked = x.clone().requires_grad_()
    plain = denoiser(tracked, t, LABELS)
    slope = torch.autograd.grad(quadratic(plain.x0).sum(), tracked)[0]
    forward = GUIDANCE["universal"](denoiser, loss=quadratic, scale=0.6)(x, t, LABELS)
    assert (forward.eps - (plain.eps + sigma * 0.6 * slope)).abs().max() < 1e-12
    backward = GUIDANCE["universal"](denoiser, loss=quadratic, scale=0.0, backward_steps=3, backward_rate=0.2)(
        x, t, LABELS
    )
    moved = plain.x0.detach()
    for _ in range(3):
        moved = moved - 0.2 * (moved - 0.5)
    assert (backward.x0 - moved).abs().max() < 1e-12
    assert (backward.eps - (plain.eps - alpha / sigma * (moved - plain.x0))).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["classifier_free", "posterior", "classifier", "apg", "universal"])
def test_a_guided_sampler_is_differentiable_where_the_caller_differentiates(name):
    path, labels = EDM(), torch.tensor([0, 1])
    times, guided = torch.tensor([3.0, 1.0, 0.3]), GUIDANCE[name](classes(path), **PLANE[name])

    def end(x):
        return SAMPLERS["heun"](guided, x, times, condition=labels).sum()

    x, way, h = 3 * normal(2, 2), normal(2, 2, seed=1), 1e-5
    slope = torch.autograd.grad(end(tracked := x.clone().requires_grad_()), tracked)[0]
    with torch.no_grad():
        assert not guided(x, 1.0, labels).eps.requires_grad
        assert torch.allclose((slope * way).sum(), (end(x + h * way) - end(x - h * way)) / (2 * h), rtol=1e-5)


# bad input


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: wrap("classifier_free", network())(normal(*IMAGES), 0.4, 7), "condition 7 is no class of the network; 0 to 2 are"),
        (lambda: wrap("classifier_free", network())(normal(*IMAGES), 0.4, torch.tensor([0, -1, 1])), "condition -1 is no class"),
        (lambda: wrap("classifier_free", classes(VP()))(normal(3, 2), 0.4, 5), "condition 5 is none of the labels"),
        (lambda: wrap("classifier", network())(normal(*IMAGES), 0.4, 3), "condition 3 is no class of the classifier; it has 0 to 2"),
        (lambda: wrap("classifier_free", tiny()), "guidance wraps a Denoiser; .* got Tiny"),
        (lambda: wrap("classifier_free", network(), scale=math.nan), "scale must be a finite number, got nan"),
        (lambda: wrap("classifier_free", network(), scale="strong"), "scale must be a finite number, got 'strong'"),
        (lambda: wrap("rescale", network(), phi=1.5), r"phi must lie in \[0, 1\], got 1.5"),
        (lambda: wrap("rescale", network(), space="pixels"), "space must be one of x0, eps, v, velocity, got 'pixels'"),
        (lambda: wrap("dynamic_threshold", network(), limit=0.0), "limit must be positive, got 0"),
        (lambda: wrap("interval", network()), "interval needs a guided denoiser, got Network"),
        (lambda: wrap("interval", wrap("apg", network()), low=2.0, high=1.0), "0 <= low <= high is needed, got 2.0 and 1.0"),
        (lambda: wrap("autoguidance", network(), weak=network(EDM())), r"weak must be a Denoiser on VP\(.* got one on EDM"),
        (lambda: wrap("apg", network(), threshold=0.0), "threshold must be positive, got 0"),
        (lambda: wrap("cfg_zero_star", network(), zero_above=-1.0), "zero_above must be a level sigma/alpha of at least 0"),
        (lambda: wrap("magnitude_aware", network(), alpha=-1.0), "alpha must be at least 0, got -1"),
        (lambda: wrap("frequency_decoupled", network(), scale=2.0), "scale must have one w per band"),
        (lambda: wrap("frequency_decoupled", network(), scale=(3.0,) * 4)(normal(*IMAGES), 0.4, 0), "4 bands are too many: level 2 is 2 x 2"),
        (lambda: wrap("frequency_decoupled", classes(VP()))(normal(3, 2), 0.4, 0), r"bands of frequencies are of images \(n, c, h, w\), got \(3, 2\)"),
        (lambda: wrap("perturbed_attention", classes(VP())), "changes layers of a network, and behind MixtureOracle there is none"),
        (lambda: wrap("perturbed_attention", Network(VP(), torch.nn.Linear(2, 2))), "Linear has no method attention_layers"),
        (lambda: wrap("skip_layer", Network(VP(), torch.nn.Linear(2, 2))), r"Linear has no method layers\(\)"),
        (lambda: wrap("smoothed_energy", network(), layers=["blocks.9"]), "no self-attention layer 'blocks.9' of the network; there are blocks.0"),
        (lambda: wrap("smoothed_energy", network(), blur=0.0), "blur must be positive, got 0"),
        (lambda: wrap("self_attention", network(), layer=[0, 1]), "layer must be one layer, got blocks.0, blocks.1"),
        (lambda: wrap("posterior", network(), noise=0.0), "noise and spread must be at least 0 and not both 0"),
        (lambda: wrap("posterior", network(), measurement=torch.zeros(3, 1, 4, 4))(normal(*IMAGES), 0.4, 0), "measurement must be of the operator's shape"),
        (lambda: wrap("universal", network(), loss=lambda x0: x0.sum())(normal(*IMAGES), 0.4, 0), "loss must give one value per sample"),
        (lambda: wrap("classifier", wrap("apg", network())), "of a guided denoiser, which has a condition, needs conditional=True"),
    ],
)  # fmt: skip
@pytest.mark.unchecked
def test_bad_input_is_one_clear_line(make, says):
    with pytest.raises(ValueError, match=says) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_every_scheme_documents_its_options():
    for name, entry in GUIDANCE.items():
        found = entry.resolve()
        for option in inspect.signature(found).parameters:
            assert option in ("denoiser", "how") or option in found.__doc__, (name, option)

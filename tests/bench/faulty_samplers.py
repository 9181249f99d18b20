"""Samplers with one fault each, for the audit to find; ``sound`` and ``sound_heun`` have none."""

import math
from itertools import pairwise

import torch

from implementations.diffusion.noise import PerSampleNoise


def _drawn(draw, like):
    return torch.randn(like.shape, dtype=like.dtype)


def _first_order(denoiser, x, times, *, asked=lambda i, here, there: here, after=lambda i, x, here, there: x, end=0.0):
    """Euler in sigma/alpha; ``asked`` is where the denoiser is asked, ``after`` changes the state after a step."""
    path = denoiser.path
    for i, (here, there) in enumerate(pairwise(times.double())):
        a, s, b, r = (float(f(t)) for t in (here, there) for f in (path.alpha, path.sigma))
        if a == 0 or s == 0 or b == 0 or r == 0:
            x = denoiser(x, here).combine(b, r if r else end * b)
        else:
            eps = denoiser(x, asked(i, here, there)).eps
            x = eps * (r - b * s / a) + x.to(eps.dtype) * (b / a)
        x = after(i, x, here, there)
    return x


def _step(path, here, there):
    return float(path.log_snr(there) - path.log_snr(here)) if path.sigma(there) > 0 and path.alpha(here) > 0 else 0.0


def sound(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _first_order(denoiser, x, times)


def off_by_one(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _first_order(denoiser, x, times, asked=lambda i, here, there: there if i else here)


def shares_a_mean(denoiser, x, times, *, noise=None, callback=None, condition=None):
    def after(i, x, here, there):
        return x + 0.1 * min(_step(denoiser.path, here, there), 1.0) ** 2 * x.mean(0)

    return _first_order(denoiser, x, times, after=after)


def rounds_to_float32(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _first_order(denoiser, x, times, after=lambda i, x, here, there: x.float().to(x.dtype))


def rounds_to_float16(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _first_order(denoiser, x, times, after=lambda i, x, here, there: x.half().to(x.dtype))


def draws_in_secret(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _first_order(denoiser, x, times, after=lambda i, x, here, there: x + 1e-7 * torch.randn_like(x))


def asks_once_more(denoiser, x, times, *, noise=None, callback=None, condition=None):
    path = denoiser.path
    for here, there in pairwise(times.double()):
        told = denoiser(x, here)
        if path.sigma(there) > 0 and path.alpha(here) > 0 and path.sigma(here) > 0:
            half = path.time((path.log_snr(here) + path.log_snr(there)) / 2)
            denoiser(told.combine(float(path.alpha(half)), float(path.sigma(half))), half)  # and drops the answer
        x = told.combine(float(path.alpha(there)), float(path.sigma(there)))
    return x


def leaves_noise(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _first_order(denoiser, x, times, end=0.02)


def stands_still(denoiser, x, times, *, noise=None, callback=None, condition=None):
    def after(i, x, here, there):
        if i == len(times) - 3:
            denoiser(x, there)  # a step from a level to itself
        return x

    return _first_order(denoiser, x, times, after=after)


def fails_in_one_step(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _first_order(denoiser, x * (math.nan if len(times) == 2 else 1.0), times)


def euler_in_t(denoiser, x, times, *, noise=None, callback=None, condition=None):
    path = denoiser.path
    for here, there in pairwise(times.double()):
        p, q = denoiser(x, here), float(path.sigma(there))
        ends = float(path.alpha(here)) == 0 or q == 0 or float(path.sigma(here)) == 0
        x = p.combine(float(path.alpha(there)), q) if ends else x + p.velocity * float(there - here)
    return x


def adds_too_little(denoiser, x, times, *, noise=None, callback=None, condition=None):
    """Ancestral, with a tenth less noise than the next level has."""
    drawn = noise or _drawn
    return _ancestral(denoiser, x, times, lambda i, x: 0.9 * drawn(i, x))


def _heun(denoiser, x, times, share):
    path = denoiser.path
    for here, there in pairwise(times.double()):
        a, s, b, r = (float(f(t)) for t in (here, there) for f in (path.alpha, path.sigma))
        first = denoiser(x, here)
        if 0 in (a, s, b, r):
            x = first.combine(b, r)
            continue
        h = r - b * s / a
        second = denoiser(x * (b / a) + first.eps * h, there)
        x = x * (b / a) + (first.eps * (1 - share) + second.eps * share) * h
    return x


def sound_heun(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _heun(denoiser, x, times, 0.5)


def wrong_weights(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _heun(denoiser, x, times, 0.4)


def ends_in_euler(denoiser, x, times, *, noise=None, callback=None, condition=None):
    """Heun whose last step is Euler's, wherever it ends."""
    x = _heun(denoiser, x, times[:-1], 0.5) if len(times) > 2 else x
    return _first_order(denoiser, x, times[-2:])


def shifts_the_levels(denoiser, x, times, *, noise=None, callback=None, condition=None):
    """Euler that steps to the level after the next: its table of levels is off by one."""
    path = denoiser.path
    for i, here in enumerate(times[:-1].double()):
        there = times[min(i + 2, len(times) - 1)]
        x = denoiser(x, here).combine(float(path.alpha(there)), float(path.sigma(there)))
    return x


def _unipc(denoiser, x, times, swap=False):
    """UniPC of order 2 on the data, B(h) = e^h - 1 (2302.04867), as its authors write it: weights by a 2x2 system."""
    path, kept, held = denoiser.path, [], None
    for here, there in pairwise(times.double()):
        told = denoiser(x, here)
        if path.sigma(there) == 0 or path.alpha(here) == 0 or path.sigma(here) == 0:
            corrected = _correct(path, held, kept, here, told.x0, swap) if held is not None else x
            end = float(path.sigma(there))
            x, held = (
                told.x0 * float(path.alpha(there)) if end == 0 else told.combine(float(path.alpha(there)), end),
                None,
            )
            kept.clear()
            continue
        corrected = _correct(path, held, kept, here, told.x0, swap) if held is not None else x
        kept = [(float(path.log_snr(here)), told.x0), *kept][:2]
        held = (corrected, here)
        h, scale = _step(path, here, there), float(path.alpha(there))
        x = corrected * float(path.sigma(there) / path.sigma(here)) - scale * math.expm1(-h) * told.x0
        if len(kept) == 2:
            r = (kept[1][0] - kept[0][0]) / h
            x = x - scale * math.expm1(-h) * 0.5 * (kept[1][1] - kept[0][1]) / r
    return x


def _correct(path, held, kept, there, x0, swap):
    """The step to ``there`` once more, by the prediction there too."""
    (x, here), (_, first) = held, kept[0]
    h, scale = _step(path, here, there), float(path.alpha(there))
    base = x * float(path.sigma(there) / path.sigma(here)) - scale * math.expm1(-h) * first
    if len(kept) == 1:
        return base - scale * math.expm1(-h) * 0.5 * (x0 - first)
    r = (kept[1][0] - kept[0][0]) / h
    phi2 = math.expm1(-h) / -h - 1
    phi3 = phi2 / -h - 0.5
    system = torch.tensor([[1.0, 1.0], [r, 1.0]], dtype=torch.float64)
    weights = torch.linalg.solve(system, torch.tensor([phi2, 2 * phi3], dtype=torch.float64) / math.expm1(-h)).tolist()
    earlier, latest = weights[::-1] if swap else weights
    return base - scale * math.expm1(-h) * (earlier * (kept[1][1] - first) / r + latest * (x0 - first))


def sound_unipc(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _unipc(denoiser, x, times)


def swaps_the_corrector(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _unipc(denoiser, x, times, swap=True)


def _multistep(denoiser, x, times, *, kept=None, ratio=lambda r: r, sign=1.0, curvature=1.0, last=None, depth=1):
    """DPM-Solver++ in two steps or three, x0 a polynomial in log-SNR; the other arguments are its faults.

    ``kept`` holds what it remembers: log-SNR and x0 of the steps before, the newest first.
    """
    path, kept = denoiser.path, [] if kept is None else kept
    for here, there in pairwise(times.double()):
        a, s, b, r = (float(f(t)) for t in (here, there) for f in (path.alpha, path.sigma))
        told = denoiser(x, here)
        if 0 in (a, s, b, r):
            x = told.combine(b, r) if r or last is None or a == 0 else last(told, x, b / a)
            kept.clear()
            continue
        here, there = (float(path.log_snr(t)) for t in (here, there))
        h, x0 = there - here, told.x0
        inside = x0 * -math.expm1(-h)
        if kept and kept[0][0] != here:
            h1 = here - kept[0][0]
            slope, width = (x0 - kept[0][1]) / h1, h + math.expm1(-h)
            if len(kept) > 1 and depth == 2:
                before = (kept[0][1] - kept[1][1]) / (kept[0][0] - kept[1][0])
                bend = (slope - before) / (here - kept[1][0]) * curvature
                inside = inside + bend * (h * h - 2 * width) + bend * h1 * width
            inside = inside + slope * (sign * h1 / h / ratio(h1 / h) * width)
        x = x * (r / s) + inside * b
        kept.insert(0, (here, x0))
    return x


def sound_two_steps(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _multistep(denoiser, x, times)


def sound_three_steps(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _multistep(denoiser, x, times, depth=2)


def inverts_the_ratio(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _multistep(denoiser, x, times, ratio=lambda r: 1 / r)


def turns_the_sign(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _multistep(denoiser, x, times, sign=-1.0)


def halves_the_curvature(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _multistep(denoiser, x, times, depth=2, curvature=0.5)


def ends_without_the_network(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _multistep(denoiser, x, times, last=lambda told, x, scale: x * scale)


REMEMBERED = []


def remembers_other_calls(denoiser, x, times, *, noise=None, callback=None, condition=None):
    if REMEMBERED and REMEMBERED[0][1].shape != x.shape:
        REMEMBERED.clear()
    return _multistep(denoiser, x, times, kept=REMEMBERED)


def loses_the_first_step(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _first_order(denoiser, x, times[1:]) if len(times) > 2 else _first_order(denoiser, x, times)


def rounds_the_time(denoiser, x, times, *, noise=None, callback=None, condition=None):
    def asked(i, here, there):
        return (here * 250).round() / 250 if here > 0.004 else here

    return _first_order(denoiser, x, times, asked=asked)


def _ancestral(denoiser, x, times, noise):
    path = denoiser.path
    for i, (here, there) in enumerate(pairwise(times.double())):
        a, r = float(path.alpha(there)), float(path.sigma(there))
        told = denoiser(x, here)
        if path.alpha(here) == 0 or path.sigma(here) == 0 or r == 0:
            x = told.combine(a, r)
            continue
        fresh = -math.expm1(2 * float(path.log_snr(here) - path.log_snr(there)))
        x = told.combine(a, r * math.sqrt(1 - fresh)) + r * math.sqrt(fresh) * noise(i, x)
    return x


def sound_ancestral(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _ancestral(denoiser, x, times, noise or _drawn)


def _ddim(denoiser, x, times, noise, share, kept):
    """DDIM with noise of ``share(f)`` of the next sigma, f the share of fresh variance at eta = 1, and ``kept`` eps."""
    path = denoiser.path
    for i, (here, there) in enumerate(pairwise(times.double())):
        a, r = float(path.alpha(there)), float(path.sigma(there))
        told = denoiser(x, here)
        if path.alpha(here) == 0 or path.sigma(here) == 0 or r == 0:
            x = told.combine(a, r)
            continue
        s = share(-math.expm1(2 * float(path.log_snr(here) - path.log_snr(there))))
        x = told.combine(a, r * kept(s)) + r * s * (noise or _drawn)(i, x)
    return x


def wrong_eta(denoiser, x, times, *, noise=None, callback=None, condition=None):
    """DDIM at eta = 1 with a variance for a standard deviation: another method, whose law is right all the same."""
    return _ddim(denoiser, x, times, noise, lambda f: f, lambda s: math.sqrt(1 - s * s))


def noise_on_top(denoiser, x, times, *, noise=None, callback=None, condition=None):
    """DDIM at eta = 1 that keeps the predicted noise whole."""
    return _ddim(denoiser, x, times, noise, math.sqrt, lambda s: 1.0)


def draws_from_torch(denoiser, x, times):
    """Ancestral, as it is written without a thought of its noise."""
    return _ancestral(denoiser, x, times, _drawn)


def shares_noise_over_calls(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _ancestral(denoiser, x, times, noise or PerSampleNoise(range(1000, 1000 + len(x))))


def shares_noise_over_samples(denoiser, x, times, *, noise=None, callback=None, condition=None):
    return _ancestral(denoiser, x, times, noise or (lambda draw, like: _drawn(draw, like[:1]).expand_as(like)))


def shares_noise_over_steps(denoiser, x, times, *, noise=None, callback=None, condition=None):
    once = []

    def same(draw, like):
        once.extend([] if once else [_drawn(draw, like)])
        return once[0]

    return _ancestral(denoiser, x, times, noise or same)


def shares_noise_with_the_start(denoiser, x, times, *, noise=None, callback=None, condition=None):
    seed = torch.initial_seed()
    generator = torch.Generator().manual_seed(seed)  # as whoever drew the start, and again with each call
    torch.rand(1)
    fresh = [torch.randn(x.shape, dtype=x.dtype, generator=generator)]

    def first(draw, like):
        return fresh.pop() if fresh else _drawn(draw, like)

    return _ancestral(denoiser, x, times, noise or first)


def returns_nothing(denoiser, x, times):
    denoiser(x, times[0])


def returns_a_mean(denoiser, x, times):
    return sound(denoiser, x, times).mean(1)


def raises(denoiser, x, times):
    raise KeyError(f"sigma of {len(x)} samples")


FIRST = [sound, off_by_one, shares_a_mean, rounds_to_float32, rounds_to_float16, draws_in_secret, asks_once_more,
         leaves_noise, stands_still, fails_in_one_step, euler_in_t, adds_too_little, loses_the_first_step,
         rounds_the_time, sound_ancestral, shares_noise_over_calls, shares_noise_over_samples, shares_noise_over_steps,
         shares_noise_with_the_start, shifts_the_levels, wrong_eta, noise_on_top,
         draws_from_torch]  # fmt: skip
SECOND = [
    sound_two_steps,
    sound_unipc,
    swaps_the_corrector,
    inverts_the_ratio,
    turns_the_sign,
    ends_without_the_network,
    remembers_other_calls,
]
THIRD = [sound_three_steps, halves_the_curvature]
for function in FIRST:
    function.order, function.stages, function.coordinate = 1, 1, "sigma"
for function in (sound_heun, wrong_weights, ends_in_euler):
    function.order, function.stages, function.coordinate = 2, 2, "sigma"
for order, functions in ((2, SECOND), (3, THIRD)):
    for function in functions:
        function.order, function.stages, function.coordinate = order, 1, "lambda"
for function in (sound_unipc, swaps_the_corrector):
    function.order, function.corrects = 3, True
# equivariance to 1e-12 cannot outlive rounding, nor a state that is taken for one of another scale
off_by_one.coordinate = rounds_to_float32.coordinate = rounds_to_float16.coordinate = None
stands_still.count = lambda touching, **_: len(touching) + (len(touching) > 1)

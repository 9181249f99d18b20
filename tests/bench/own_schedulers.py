"""Schedulers as a user writes them, of diffusers' form: sound ones of each kind, and the same with a fault each."""

import math
from types import SimpleNamespace

import numpy as np
import torch


class Sigmas:
    """What the schedulers here share: levels of a table of betas, counted down by one step per call."""

    prediction_type = "epsilon"
    resets = True

    def __init__(self):
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.alphas_cumprod = torch.cumprod(1 - betas, 0)
        self.index, self.earlier = 0, None

    def set_timesteps(self, steps):
        levels = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()
        self.timesteps = torch.linspace(999, 0, steps).round().long()
        self.sigmas = torch.cat([levels[self.timesteps], torch.zeros(1, dtype=torch.float64)])
        self.index = 0
        if self.resets:
            self.earlier = None

    def pair(self):
        here, there = (float(s) for s in self.sigmas[self.index : self.index + 2])
        self.index += 1
        return here, there


class Multistep(Sigmas):
    """DPM-Solver++(2M), on variance-preserving states."""

    solver_order = 2
    ratio = 1

    def step(self, output, timestep, sample):
        here, there = self.pair()
        alpha, sigma = (1 / math.hypot(1, here)), here / math.hypot(1, here)
        x0 = (sample - sigma * output) / alpha
        alpha, sigma_to = (1 / math.hypot(1, there)), there / math.hypot(1, there)
        if there == 0:
            return SimpleNamespace(prev_sample=x0)
        h, mean = math.log(here / there), x0
        if self.earlier is not None:
            r = ((math.log(self.earlier[0] / here)) / h) ** self.ratio
            mean = x0 + (x0 - self.earlier[1]) / (2 * r)
        self.earlier = here, x0
        return SimpleNamespace(prev_sample=sigma_to / sigma * sample - alpha * math.expm1(-h) * mean)


class Inverted(Multistep):
    ratio = -1


class Forgetful(Multistep):
    resets = False


class Endless(Multistep):
    """It forgets at which step it is: a second run goes on where the first one ended."""

    def set_timesteps(self, steps):
        index = self.index
        super().set_timesteps(steps)
        self.index = index


class Euler(Sigmas):
    """Euler on exploding states, which draws noise for a share of the next level (eta)."""

    eta, scale = 0.0, 1.0

    def step(self, output, timestep, sample):
        here, there = self.pair()
        up = min(there, self.eta * math.sqrt(max(there**2 * (1 - (there / here) ** 2), 0)))
        down = math.sqrt(there**2 - up**2)
        return (sample + (down - here) * output + self.scale * up * torch.randn_like(sample),)


class Ancestral(Euler):
    eta = 1.0


class Loud(Ancestral):
    scale = 1.1


class Heun(Sigmas):
    """Heun on exploding states, of two calls of the network per step, as diffusers counts them."""

    last = 0.5

    def set_timesteps(self, steps):
        super().set_timesteps(steps)
        inner = self.sigmas[1:-1].repeat_interleave(2)
        self.sigmas = torch.cat([self.sigmas[:1], inner, self.sigmas[-1:]]).numpy()
        self.timesteps = np.arange(2 * steps - 1)
        self.begun = None

    def step(self, output, timestep, sample):
        here, there = self.pair()
        if self.begun is None:
            if there > 0:
                self.begun = here, sample, output
            return {"prev_sample": sample + (there - here) * output}
        level, start, first = self.begun
        self.begun = None
        return {"prev_sample": start + (here - level) * (first + output) / 2}


class Flow:
    """Euler on straight states, whose levels are shares of noise."""

    def set_timesteps(self, steps):
        self.sigmas = [1 - k / steps for k in range(steps + 1)]
        self.timesteps, self.index = [1000 * s for s in self.sigmas[:-1]], 0

    def step(self, output, timestep, sample):
        here, there = self.sigmas[self.index : self.index + 2]
        self.index += 1
        return sample + (there - here) * output


class Table(Sigmas):
    """DDIM on a table alone, by its own timesteps."""

    def set_timesteps(self, steps):
        super().set_timesteps(steps)
        del self.sigmas

    def step(self, output, timestep, sample):
        self.index += 1
        bar = self.alphas_cumprod[timestep]
        before = self.alphas_cumprod[self.timesteps[self.index]] if self.index < len(self.timesteps) else torch.ones(())
        x0 = (sample - (1 - bar).sqrt() * output) / bar.sqrt()
        return SimpleNamespace(prev_sample=before.sqrt() * x0 + (1 - before).sqrt() * output)


class Strided:
    """DDIM on a table, by the distance of two timesteps in training, and with noise by eta."""

    def __init__(self, eta=0.0):
        self.eta, self.num_train_timesteps = eta, 1000
        self.alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
        self.final_alpha_cumprod = torch.ones(())

    def set_timesteps(self, steps):
        self.stride = self.num_train_timesteps // steps
        self.timesteps = torch.arange(steps).flip(0) * self.stride

    def step(self, output, timestep, sample):
        here, place = self.alphas_cumprod[timestep], timestep - self.stride
        there = self.alphas_cumprod[place] if place >= 0 else self.final_alpha_cumprod
        x0 = (sample - (1 - here).sqrt() * output) / here.sqrt()
        deviation = self.eta * ((1 - there) / (1 - here) * (1 - here / there)).sqrt()
        return (there.sqrt() * x0 + (1 - there - deviation**2).sqrt() * output
                + deviation * torch.randn_like(sample),)  # fmt: skip


class Fixed(Strided):
    """One that steps by 1000 // steps, whatever its table."""

    def set_timesteps(self, steps):
        self.stride = 1000 // steps
        self.timesteps = torch.arange(steps).flip(0) * self.stride


noisy = Strided(eta=1.0)


class Wordy(Sigmas):
    def step(self, output, timestep, sample):
        return "the next sample"


class Choosy(Sigmas):
    def __init__(self, order):
        self.order = order

    def step(self, output, timestep, sample):
        return sample


class Stepless:
    def set_timesteps(self, steps):
        self.timesteps = range(steps)


class Levelless(Stepless):
    def step(self, output, timestep, sample):
        return sample


try:
    import diffusers
except ImportError:
    pass
else:

    class Derived(diffusers.DPMSolverMultistepScheduler):
        """A scheduler of diffusers, changed by a user who halves what the step before is worth."""

        def multistep_dpm_solver_second_order_update(self, model_output_list, *args, **kwargs):
            last, before = model_output_list[-1], model_output_list[-2]
            return super().multistep_dpm_solver_second_order_update([(last + before) / 2, last], *args, **kwargs)

"""What can be trained, by name: one module per kind of model, none of which is imported with this table."""

from implementations.catalogue.entry import Catalogue, Entry

JOBS = Catalogue("jobs", Entry, [
    Entry("fmnist_classifier", "bench.train.jobs.fmnist_classifier:job", "the network whose features give fd_fmnist"),
    Entry("noisy_classifier", "bench.train.jobs.noisy_classifier:job", "a classifier of noised images, for guidance"),
    Entry("pairs", "bench.train.jobs.pairs:job", "noise and the images that a flow makes of it, for reflow"),
    Entry("reflow", "bench.train.jobs.reflow:job", "a rectified flow on such pairs"),
    Entry("consistency", "bench.train.jobs.consistency:job", "a few-step model, with or without a teacher"),
    Entry("denoiser", "bench.train.jobs.denoiser:job", "a diffusion model or a flow, with or without classes"),
])  # fmt: skip

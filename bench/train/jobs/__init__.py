"""What can be trained, by name: one module per kind of model, none of which is imported with this table."""

from implementations.catalogue.entry import Catalogue, Entry

JOBS = Catalogue("jobs", Entry, [
    Entry("fmnist_classifier", "bench.train.jobs.fmnist_classifier:job", "the network whose features give fd_fmnist"),
    Entry("denoiser", "bench.train.jobs.denoiser:job", "a diffusion model or a flow, with or without classes"),
])  # fmt: skip

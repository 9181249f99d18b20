"""A package, since torch-fidelity installs another of this name, which the processes of ``on_ranks`` would find."""

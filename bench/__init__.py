"""The harness: what is measured, how it is run, stored, compared and shown."""

__version__ = "0.1.0"

"""Thin adapters that present other libraries' methods through the same contracts; imported by name, on demand."""

"""What was measured: one record a cell, and the comparison of two stores."""

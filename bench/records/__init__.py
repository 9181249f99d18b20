"""Records of what was measured, one per cell: their format, their store on disk, and the comparison of two stores."""

"""Tasks of guidance: what a scheme samples, beside the density that it is named after."""

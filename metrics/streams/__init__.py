"""The metrics as torchmetrics.Metric, whose states are sums."""

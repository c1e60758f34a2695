"""Where a run's numbers also go, through one door: W&B, trackio, TensorBoard."""

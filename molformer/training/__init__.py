"""Training: configs, the Lightning task, callbacks, the run and its evaluation."""

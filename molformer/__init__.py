"""SE(3)-Transformers for molecules and point clouds."""

"""Claims of "Dropout in training neural networks: flatness of solution and noise structure"."""

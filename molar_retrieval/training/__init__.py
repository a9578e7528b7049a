"""What all training shares: the loop, its state on disk, the learning rate, devices and processes."""

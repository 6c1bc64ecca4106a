"""RoIAlign beside Precise RoI Pooling: values, coordinate gradients, times, and AP inside an IoU-Net."""

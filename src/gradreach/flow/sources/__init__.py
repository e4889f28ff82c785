"""Where state gradients come from: fused layers, loops over cells, inputs."""

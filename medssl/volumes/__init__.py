"""From the images of a manifest to volumes, and from a volume to its voxels."""

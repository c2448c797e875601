"""Few labels for pixels: a pretrained encoder with a decoder that outlines structures."""

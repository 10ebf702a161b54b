"""Image classifiers: plain networks from pictures (B, C, H, W) to logits (B, K).

Every network is built as `Network(in_channels, num_classes, image_size, *, <hyperparameters>)` and
names the parameters of its classifier in `head_prefixes`, so that a backbone can be frozen or
trained at a lower rate. One file an architecture; `zoo` makes those of torchvision and timm,
`weights` knows where published weights can be had, `download` fetches them, and `pretrained` reads
files of weights and puts them into a network.
"""

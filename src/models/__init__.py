"""Plain networks from pictures (B, C, H, W) to logits (B, K), or of pixels (B, K, H, W).

Every network is built as `Network(in_channels, num_classes, image_size, *, <hyperparameters>)`, of
C, of K (at least 2) and of the height and width in pixels. It names the parameters of its
classifier in `head_prefixes`, so that a backbone can be frozen or trained at a lower rate.
Hyperparameters are checked by src/config/models.py. One file per architecture; `zoo` builds those
of torchvision and timm, `encoder_decoder` puts decoders to pixels onto timm's, `weights` finds
published weights, `download` fetches them, and `pretrained` loads files of weights. Tensors and
plain values only; calls no other room.
"""

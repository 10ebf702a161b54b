def load_weights(network, pretrained, **k):
    return None

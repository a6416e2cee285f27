"""The lists of parameters that the benchmarks step on: each a list of groups, each a list of shapes."""

import math


def mlp():
    """The demo's MLP."""
    return [(128, 64), (128,), (128, 128), (128,), (10, 128), (10,)]


def resnet50():
    def conv(inputs, outputs, size):
        """Weights of a convolution without bias, and those and the biases of its batch norm."""
        return [(outputs, inputs, size, size), (outputs,), (outputs,)]

    shapes, inputs = conv(3, 64, 7), 64
    for blocks, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            shapes += conv(inputs, width, 1) + conv(width, width, 3) + conv(width, 4 * width, 1)
            if block == 0:
                shapes += conv(inputs, 4 * width, 1)  # the shortcut
            inputs = 4 * width
    return [*shapes, (1000, inputs), (1000,)]


def transformer(width, layers):
    """Of each layer: norm, attention's two projections, norm, the two linear maps; a norm at the end."""
    norm = [(width,), (width,)]
    attention = [(3 * width, width), (3 * width,), (width, width), (width,)]
    perceptron = [(4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    return [*(norm + attention + norm + perceptron) * layers, *norm]


def gpt2_small():
    return [(50257, 768), (1024, 768), *transformer(768, 12)]


def vit_b16():
    return [(1, 1, 768), (1, 197, 768), (768, 3, 16, 16), (768,), *transformer(768, 12), (1000, 768), (1000,)]


def groups():
    """A group a tensor, as for a learning rate a layer: 16, 32, ... 4096 elements in turn."""
    return [[(16 << k % 9,)] for k in range(465)]


def blocks(width, layers):
    """The matrices of a transformer's equal blocks: what Muon steps on there."""
    return [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)] * layers


# Every tensor is a matrix.
OF_MATRICES = {
    "1 x 1024^2": lambda: [[(1024, 1024)]],
    "6 blocks": lambda: [blocks(256, 6)],
    "24 x 128^2": lambda: [[(128, 128)] * 24],
}

LISTS = {
    "500 x 16": lambda: [[(16,)] * 500],
    "465 groups": groups,
    "MLP": lambda: [mlp()],
    "ResNet-50": lambda: [resnet50()],
    "ViT-B/16": lambda: [vit_b16()],
    "GPT-2 small": lambda: [gpt2_small()],
    "1 x 124M": lambda: [[(124_000_000,)]],
    **OF_MATRICES,
}


def counts(shapes):
    return len(shapes), sum(map(math.prod, shapes))


assert counts(resnet50()) == (161, 25_557_032)
assert counts(vit_b16()) == (152, 86_567_656)
assert counts(gpt2_small()) == (148, 124_439_808)

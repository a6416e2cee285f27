"""The networks that benchmarks train, on scikit-learn's 1,797 digits: each takes images of 1 x 8 x 8."""

import functools

import torch
from sklearn.datasets import load_digits
from torch import nn


def layers(count=250, width=16):
    """Small layers, so that an iteration is all overhead: two parameters a layer, on images shrunk to 4 x 4.

    Orthogonal weights keep the gradients of the first layers out of the denormal numbers, which take their own time.
    """
    made = [nn.AvgPool2d(2), nn.Flatten()]
    for _ in range(count):
        made += [nn.Linear(width, width), nn.Tanh()]
        nn.init.orthogonal_(made[-2].weight)
    return nn.Sequential(*made)


def conv(inputs, outputs, size=3, stride=1, groups=1):
    """A convolution and its batch norm."""
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


def conv_net():
    def block(inputs, outputs):
        return [*conv(inputs, outputs), nn.ReLU()]

    made = [*block(1, 16), *block(16, 16), nn.MaxPool2d(2), *block(16, 32), *block(32, 32), nn.MaxPool2d(2)]
    return nn.Sequential(*made, nn.Flatten(), nn.Linear(32 * 2 * 2, 10))


class Residual(nn.Module):
    """What the layers give, added to their input, which a shortcut fits to it where the two differ."""

    def __init__(self, layers, shortcut=None):
        super().__init__()
        self.layers, self.shortcut = layers, shortcut or nn.Identity()

    def forward(self, images):
        return torch.relu(self.layers(images) + self.shortcut(images))


def resnet18():
    """ResNet-18 in its form for images of 32 x 32, to which the digits are blown up."""

    def block(inputs, outputs, stride):
        layers = nn.Sequential(conv(inputs, outputs, 3, stride), nn.ReLU(), conv(outputs, outputs))
        return Residual(layers, conv(inputs, outputs, 1, stride) if inputs != outputs else None)

    made, inputs = [nn.Upsample(scale_factor=4), conv(1, 64), nn.ReLU()], 64
    for outputs in (64, 128, 256, 512):
        made += [block(inputs, outputs, 1 if inputs == outputs else 2), block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*made, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


class Transformer(nn.Module):
    """An encoder that reads each row of the image as a word."""

    def __init__(self, width, inner, layers=4):
        super().__init__()
        self.rows = nn.Linear(8, width)
        self.positions = nn.Parameter(torch.zeros(8, width))
        layer = nn.TransformerEncoderLayer(width, 4, inner, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, images):
        return self.head(self.encoder(self.rows(images.squeeze(1)) + self.positions).mean(1))


class LSTM(nn.Module):
    """Two layers that read the image row by row."""

    def __init__(self, width=128):
        super().__init__()
        self.recurrent = nn.LSTM(8, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, images):
        return self.head(self.recurrent(images.squeeze(1))[0][:, -1])


def depthwise(blocks=30, width=32):
    """Convolutions of each channel and across channels in turn: six small tensors a block."""
    made = [conv(1, width), nn.ReLU(), nn.MaxPool2d(2)]
    for _ in range(blocks):
        made.append(Residual(nn.Sequential(conv(width, width, groups=width), nn.ReLU(), conv(width, width, 1))))
    return nn.Sequential(*made, nn.BatchNorm2d(width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


@functools.cache
def digits():
    found = load_digits()
    return torch.tensor(found.images, dtype=torch.float32).unsqueeze(1) / 16, torch.tensor(found.target)


def batches(size=64):
    """Batches of all digits in an order given by a fixed seed, epoch after epoch."""
    images, labels = digits()
    generator = torch.Generator().manual_seed(0)
    while True:
        order = torch.randperm(len(labels), generator=generator)
        for some in order[: len(order) // size * size].split(size):
            yield images[some], labels[some]


# What benchmarks of control train: the network, and the optimizer with its options.
TRAININGS = {
    "conv net": (conv_net, "SGD", {"lr": 0.05, "momentum": 0.9}),
    "transformer": (functools.partial(Transformer, 32, 64), "AdamW", {"lr": 1e-3}),
}

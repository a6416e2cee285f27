"""Write the MNIST images of examples/demo.py, split as there, to a file for examples/digits.rs."""

import argparse
from pathlib import Path

from demo import tasks
from safetensors.torch import save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="the safetensors file")
    path = parser.parse_args().path
    task = tasks()[1]
    (images, labels), (test_images, test_labels) = task.train, task.test
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {"images": images, "labels": labels, "test_images": test_images, "test_labels": test_labels}
    save_file({name: tensor.contiguous() for name, tensor in named.items()}, path)
    print(f"{path}: {len(images)} images to train with, {len(test_images)} to test with")


if __name__ == "__main__":
    main()

"""The effects of the learning rate, each reproduced by one small script: ``python -m torchpace.gallery --list``."""

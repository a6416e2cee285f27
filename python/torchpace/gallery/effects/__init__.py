"""One script an effect: a docstring that says what is seen, and ``run(page)``."""
